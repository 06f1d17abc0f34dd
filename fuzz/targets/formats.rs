//! Rows of an index. See [`earmark_fuzz::formats`].

#![no_main]

libfuzzer_sys::fuzz_target!(init: earmark_fuzz::make_own_panics_fatal(), |data: &[u8]| {
    earmark_fuzz::formats::run(data);
});
