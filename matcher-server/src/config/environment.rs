//! Variables of the environment that look like settings and are none.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::Command;

/// How the names of settings begin in the environment.
const PREFIX: &str = "EARMARK_SERVER_";
/// What Kubernetes sets for a service that is named `earmark-server`.
const OF_KUBERNETES: [&str; 2] = ["EARMARK_SERVER_PORT", "EARMARK_SERVER_SERVICE_"];

/// Names that begin as those of settings do, and that `command` does not know: misspelt, most likely. In order.
///
/// They are no errors, as others name variables too: Kubernetes calls those of a service `earmark-server` so, which are
/// left out.
pub fn unknown_variables(
    command: &Command,
    names: impl IntoIterator<Item = OsString>,
) -> Vec<String> {
    let known: HashSet<_> =
        command.get_arguments().filter_map(|argument| argument.get_env()).collect();
    let is_unknown = |name: &OsString| {
        let text = name.to_string_lossy();
        text.starts_with(PREFIX)
            && !known.contains(name.as_os_str())
            && !OF_KUBERNETES.iter().any(|prefix| text.starts_with(prefix))
    };
    let names = names.into_iter().filter(is_unknown);
    let mut unknown: Vec<_> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    unknown.sort_unstable();
    unknown
}

#[cfg(test)]
mod tests {
    use clap::Args;

    use super::*;
    use crate::config::Settings;

    #[test]
    fn what_is_misspelt_is_named_and_what_others_set_is_not() {
        let command = Settings::augment_args(Command::new("earmark-server"));
        let names = [
            "PATH",
            "EARMARK_SERVER_WORKER",
            "EARMARK_SERVER_WORKERS",
            "EARMARK_SERVER_INDEXX",
            "EARMARK_SERVER_PORT_50051_TCP",
            "EARMARK_SERVER_SERVICE_HOST",
        ];
        let unknown = unknown_variables(&command, names.map(OsString::from));
        assert_eq!(unknown, ["EARMARK_SERVER_INDEXX", "EARMARK_SERVER_WORKER"]);
    }
}
