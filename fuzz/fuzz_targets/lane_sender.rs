#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| webmesh::fuzzing::lane_sender(data));
