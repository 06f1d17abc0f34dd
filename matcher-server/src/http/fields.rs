//! Names and texts that come with a recording, from the query of an address and from a form.

use std::collections::BTreeMap;

use axum::extract::Query;
use axum::extract::rejection::QueryRejection;

use super::problem::Problem;
use crate::reason::Reason;

/// The query of an address, which is looked at by [`of`].
pub(super) type QueryFields = Result<Query<Vec<(String, String)>>, QueryRejection>;

/// The fields of a query.
///
/// # Errors
///
/// If it is none, or has a field twice or without a name.
pub(super) fn of(query: QueryFields) -> Result<BTreeMap<String, String>, Problem> {
    let Query(pairs) = query?;
    let mut fields = BTreeMap::new();
    for (name, text) in pairs {
        take(&mut fields, name, text)?;
    }
    Ok(fields)
}

/// Sees to it that an address has no query, where none is read.
///
/// # Errors
///
/// If it has one: whoever wrote it counts on something.
pub(super) fn none(query: QueryFields) -> Result<(), Problem> {
    match of(query)?.into_keys().next() {
        None => Ok(()),
        Some(name) => {
            let text =
                format!("there is no option {name:?} here; /v1/openapi.json tells what there is");
            Err(Problem::new(Reason::ArgumentInvalid, text))
        }
    }
}

/// Adds a field to those that are there.
///
/// # Errors
///
/// If it has no name, or is there already: nobody could tell which of the two is meant.
pub(super) fn take(
    fields: &mut BTreeMap<String, String>,
    name: String,
    text: String,
) -> Result<(), Problem> {
    if name.is_empty() {
        let text = "a field has no name; leave it out, or give it one";
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    if fields.contains_key(&name) {
        let text = format!("field {name} is there twice; send it once");
        return Err(Problem::new(Reason::ArgumentInvalid, text));
    }
    fields.insert(name, text);
    Ok(())
}
