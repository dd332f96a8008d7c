#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| webmesh::fuzzing::actor_ref(data));
