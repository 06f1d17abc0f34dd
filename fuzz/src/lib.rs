//! What hostile bytes meet first: decoders, the rows of an index, requests. Each module has a function that
//! takes any bytes and panics if they do what they must not.
//!
//! `targets/` lets libFuzzer call these functions (`make fuzz`, which needs a nightly compiler); `corpus/`
//! keeps the inputs that it found worth keeping, and `tests/corpus.rs` gives them to the same functions in
//! every `make test`.

pub mod decode;
pub mod formats;
pub mod requests;

use std::process::abort;

/// Makes panics of our own code fatal, also where a caller would catch them. Those of the libraries that
/// decode audio are caught where they are called, and are no fault.
pub fn make_own_panics_fatal() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |place| place.file());
        if !file.contains("symphonia") {
            report(panic);
            abort();
        }
    }));
}
