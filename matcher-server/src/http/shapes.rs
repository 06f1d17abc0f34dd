//! Requests as the OpenAPI document describes them, where no type of ours does.

use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema};
use utoipa::openapi::{KnownFormat, Ref, RefOr, SchemaFormat, Type};
use utoipa::{IntoParams, PartialSchema, ToSchema};

use super::options::MatchQuery;
use super::tracks::{ATTRIBUTES, IdQuery, MetadataQuery};

/// Bytes as they are, of the media type that stands beside them. OpenAPI 3.1 could do without the format, but many
/// tools know bytes by nothing else.
pub(super) struct Binary;

impl PartialSchema for Binary {
    fn schema() -> RefOr<Schema> {
        binary().into()
    }
}

impl ToSchema for Binary {}

fn binary() -> ObjectBuilder {
    text().format(Some(SchemaFormat::KnownFormat(KnownFormat::Binary)))
}

/// A clip with its options.
pub(super) struct ClipForm;

impl PartialSchema for ClipForm {
    fn schema() -> RefOr<Schema> {
        form("The clip: a file of any codec that the server can decode", params::<MatchQuery>())
            .additional_properties(Some(AdditionalProperties::FreeForm(false)))
            .into()
    }
}

impl ToSchema for ClipForm {}

/// A recording with its metadata and perhaps an id.
pub(super) struct TrackForm;

impl PartialSchema for TrackForm {
    fn schema() -> RefOr<Schema> {
        let fields = params::<IdQuery>().chain(params::<MetadataQuery>());
        track_form(fields).into()
    }
}

impl ToSchema for TrackForm {}

/// A recording with its metadata, whose id stands in the address.
pub(super) struct NamedTrackForm;

impl PartialSchema for NamedTrackForm {
    fn schema() -> RefOr<Schema> {
        track_form(params::<MetadataQuery>()).into()
    }
}

impl ToSchema for NamedTrackForm {}

fn track_form(fields: impl Iterator<Item = (String, RefOr<Schema>)>) -> ObjectBuilder {
    let what = "The recording: a file of any codec that the server can decode";
    // The head of a field is one of HTTP, in which a backslash may stand for something else.
    let name = text().min_length(Some(1)).pattern(Some(r"^[^\\\x00-\x1f\x7f]*$"));
    form(what, fields.filter(|(name, _)| name != ATTRIBUTES))
        .property_names(Some(Schema::from(name.build())))
        .additional_properties(Some(AdditionalProperties::<Schema>::RefOr(text().into())))
}

/// Fields of any name.
pub(super) fn attributes() -> Schema {
    ObjectBuilder::new()
        .property_names(Some(Schema::from(text().min_length(Some(1)).build())))
        .additional_properties(Some(AdditionalProperties::<Schema>::RefOr(text().into())))
        .build()
        .into()
}

fn text() -> ObjectBuilder {
    ObjectBuilder::new().schema_type(Type::String)
}

/// A form with the fields and the file, which it must have.
fn form(what: &str, fields: impl Iterator<Item = (String, RefOr<Schema>)>) -> ObjectBuilder {
    let form =
        fields.fold(ObjectBuilder::new(), |form, (name, schema)| form.property(name, schema));
    let file = binary().content_media_type("application/octet-stream").description(Some(what));
    form.property("audio", file).required("audio")
}

/// What may stand in the query of an address, as fields.
fn params<P: IntoParams>() -> impl Iterator<Item = (String, RefOr<Schema>)> {
    P::into_params(|| None).into_iter().map(|param| {
        let mut schema = param.schema.unwrap_or_else(|| RefOr::Ref(Ref::default()));
        if let RefOr::T(Schema::Object(object)) = &mut schema {
            object.description = param.description;
        }
        (param.name, schema)
    })
}
