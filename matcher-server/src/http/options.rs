//! How a clip is searched for: options in the query of an address, or in the fields of a form.

use std::collections::BTreeMap;
use std::str::FromStr;

use earmark_proto::v1;
use utoipa::{IntoParams, ToSchema};

use super::problem::Problem;
use crate::convert::MATCHES_MAX;
use crate::reason::Reason;

/// Most characters of a wrong value that are told.
const SHOWN_MAX: usize = 64;

/// How to search.
#[derive(Debug, Clone, Default, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct MatchQuery {
    /// Most matches to report.
    #[param(minimum = 1, maximum = 1000, default = 10, example = 3)]
    pub(super) max_matches: Option<u32>,
    /// Least confidence of a reported match.
    #[param(minimum = 0, maximum = 1, default = 0, example = 0.5)]
    pub(super) min_confidence: Option<f64>,
    /// Most false accepts by chance that are put up with: at most one foreign clip in 10,000 if not given.
    #[param(exclusive_minimum = 0, maximum = 1, default = 0.0001, example = 0.01)]
    pub(super) max_false_accepts: Option<f64>,
    /// Whether tracks of changed speed, tempo or pitch are searched for: never, where no unchanged track is
    /// found beyond doubt, or everywhere.
    #[param(inline, example = "off")]
    pub(super) speed_search: Option<SpeedSearch>,
    /// Longest time the server may take, in milliseconds. If not given, its own limit holds.
    #[param(value_type = Option<u64>, minimum = 1, maximum = 4_294_967_295_u32, example = 5000)]
    pub(super) deadline_ms: Option<u32>,
    /// The caller's name for the request, up to 128 bytes of UTF-8; it comes back with the answer.
    #[param(max_length = 128, example = "clip-7")]
    pub(super) request_id: Option<String>,
}

/// The name of a request as a header.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "it documents the header, which is read with all others")]
pub(super) struct NameHeader {
    /// The same as `request_id`, which is stronger.
    #[param(rename = "X-Request-Id", max_length = 128, example = "clip-7")]
    request_id: Option<String>,
}

/// Whether tracks of changed speed, tempo or pitch are searched for: never (`off`), where no unchanged track is found
/// beyond doubt (`auto`), or everywhere (`full`).
#[derive(Debug, Clone, Copy, ToSchema)]
#[schema(rename_all = "lowercase", default = "auto")]
pub(super) enum SpeedSearch {
    /// Never.
    Off,
    /// Where no unchanged track is found beyond doubt.
    Auto,
    /// Everywhere.
    Full,
}

impl MatchQuery {
    /// The options that an address and a form have named.
    pub(super) fn of(fields: BTreeMap<String, String>) -> Result<Self, Problem> {
        let mut query = Self::default();
        for (name, text) in fields {
            let wrong = |expected: &str| {
                let shown: String = text.chars().take(SHOWN_MAX).collect();
                let text = format!("{name} is {shown:?}, it must be {expected}");
                Problem::new(Reason::ArgumentInvalid, text)
            };
            let share = |is_share: fn(&f64) -> bool, expected| {
                number(&text, is_share).ok_or_else(|| wrong(expected))
            };
            match name.as_str() {
                "max_matches" => {
                    let count = number(&text, |count| (1..=MATCHES_MAX).contains(count));
                    query.max_matches = Some(count.ok_or_else(|| wrong("1 to 1000"))?);
                }
                "min_confidence" => {
                    let least = share(|least| (0.0..=1.0).contains(least), "0 to 1");
                    query.min_confidence = Some(least?);
                }
                "max_false_accepts" => {
                    let most = share(|most| *most > 0.0 && *most <= 1.0, "above 0 and at most 1");
                    query.max_false_accepts = Some(most?);
                }
                "speed_search" => {
                    query.speed_search = Some(match text.as_str() {
                        "off" => SpeedSearch::Off,
                        "auto" => SpeedSearch::Auto,
                        "full" => SpeedSearch::Full,
                        _ => return Err(wrong("off, auto or full")),
                    });
                }
                "deadline_ms" => {
                    let time = number(&text, |ms| *ms > 0);
                    query.deadline_ms = Some(time.ok_or_else(|| wrong("1 to 4294967295"))?);
                }
                "request_id" => query.request_id = Some(text),
                _ => {
                    let text = format!(
                        "there is no option {name:?}; those there are stand in /v1/openapi.json"
                    );
                    return Err(Problem::new(Reason::ArgumentInvalid, text));
                }
            }
        }
        Ok(query)
    }

    /// As gRPC has them, and the name of the request.
    pub(super) fn into_options(self) -> (v1::MatchOptions, String) {
        let speed_search = match self.speed_search {
            None => v1::SpeedSearch::Unspecified,
            Some(SpeedSearch::Off) => v1::SpeedSearch::Off,
            Some(SpeedSearch::Auto) => v1::SpeedSearch::Auto,
            Some(SpeedSearch::Full) => v1::SpeedSearch::Full,
        };
        let options = v1::MatchOptions {
            max_matches: self.max_matches.unwrap_or_default(),
            min_confidence: self.min_confidence.unwrap_or_default(),
            max_false_accepts: self.max_false_accepts,
            speed_search: speed_search.into(),
            deadline_ms: self.deadline_ms.unwrap_or_default(),
        };
        (options, self.request_id.unwrap_or_default())
    }
}

/// A number that is in its range.
fn number<T: FromStr>(text: &str, is_in_range: impl Fn(&T) -> bool) -> Option<T> {
    text.parse().ok().filter(is_in_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &str, text: &str) -> Result<MatchQuery, Problem> {
        MatchQuery::of([(name.to_owned(), text.to_owned())].into())
    }

    #[test]
    fn options_are_read_up_to_their_ends_and_refused_by_name_beyond() {
        assert_eq!(of("max_matches", "1000").unwrap().max_matches, Some(1000));
        assert_eq!(of("min_confidence", "0").unwrap().min_confidence, Some(0.0));
        assert_eq!(of("max_false_accepts", "1").unwrap().max_false_accepts, Some(1.0));
        assert_eq!(of("deadline_ms", "4294967295").unwrap().deadline_ms, Some(u32::MAX));
        assert_eq!(of("request_id", "7").unwrap().request_id.as_deref(), Some("7"));
        assert!(matches!(
            of("speed_search", "full").unwrap().speed_search,
            Some(SpeedSearch::Full)
        ));
        for (name, text) in [
            ("max_matches", "0"),
            ("max_matches", "1001"),
            ("max_matches", "many"),
            ("max_matches", ""),
            ("min_confidence", "-0.1"),
            ("min_confidence", "1.01"),
            ("min_confidence", "NaN"),
            ("max_false_accepts", "0"),
            ("max_false_accepts", "inf"),
            ("speed_search", "OFF"),
            ("deadline_ms", "0"),
            ("deadline_ms", "4294967296"),
            ("nothing", "1"),
        ] {
            let problem = format!("{:?}", of(name, text).unwrap_err());
            assert!(problem.contains(name), "{problem}");
        }
    }
}
