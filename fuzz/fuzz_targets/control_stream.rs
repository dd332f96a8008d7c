#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| webmesh::fuzzing::control_stream(data));
