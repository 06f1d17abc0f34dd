//! Variables of the environment that look like settings and are none.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::Command;

/// How the names of settings begin in the environment.
const PREFIX: &str = "EARMARK_SERVER_";
/// What Kubernetes sets for a service that is named `earmark-server`; and one more, if its value is such an address.
const OF_KUBERNETES: [&str; 2] = ["EARMARK_SERVER_PORT_", "EARMARK_SERVER_SERVICE_"];
const PORT: &str = "EARMARK_SERVER_PORT";
const ADDRESS: &str = "tcp://";

/// Names that begin as those of settings do, and that `command` does not know: misspelt, most likely. In order.
///
/// They are no errors, as others name variables too: Kubernetes calls those of a service `earmark-server` so, which are
/// left out.
pub fn unknown_variables(
    command: &Command,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let known: HashSet<_> =
        command.get_arguments().filter_map(|argument| argument.get_env()).collect();
    let is_unknown = |(name, value): &(OsString, OsString)| {
        let text = name.to_string_lossy();
        let is_of_kubernetes = OF_KUBERNETES.iter().any(|prefix| text.starts_with(prefix))
            || (text == PORT && value.to_string_lossy().starts_with(ADDRESS));
        text.starts_with(PREFIX) && !known.contains(name.as_os_str()) && !is_of_kubernetes
    };
    let names = variables.into_iter().filter(is_unknown).map(|(name, _)| name);
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
        let variables = [
            ("PATH", ""),
            ("EARMARK_SERVER_WORKER", "3"),
            ("EARMARK_SERVER_WORKERS", "3"),
            ("EARMARK_SERVER_PORT", "8080"),
            ("EARMARK_SERVER_PORT", "tcp://10.0.0.1:50051"),
            ("EARMARK_SERVER_PORT_50051_TCP", "tcp://10.0.0.1:50051"),
            ("EARMARK_SERVER_SERVICE_HOST", "10.0.0.1"),
        ];
        let variables = variables.map(|(name, value)| (name.into(), value.into()));
        let unknown = unknown_variables(&command, variables);
        assert_eq!(unknown, ["EARMARK_SERVER_PORT", "EARMARK_SERVER_WORKER"]);
    }
}
