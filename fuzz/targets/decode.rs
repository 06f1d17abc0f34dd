//! Audio files and fingerprints. See [`earmark_fuzz::decode`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: earmark_fuzz::make_own_panics_fatal(), |data: &[u8]| {
    earmark_fuzz::decode::run(data);
});
