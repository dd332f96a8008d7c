#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| webmesh_transport::fuzzing::piece(data));
