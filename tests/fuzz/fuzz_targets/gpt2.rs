#![no_main]
libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    alcyon_fuzz::gpt2(bytes);
});
