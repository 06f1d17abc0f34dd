//! A manifest → files with what the caller says about them.
//!
//! Rows are read one at a time, so a manifest may be of any length. A row that cannot be used is
//! refused with its line; only a manifest that cannot be read at all is an error of the command.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use fingerprint_core::index::Metadata;
use fingerprint_core::units::TrackId;
use serde_json::Value;

use super::item::{Entry, Flow, Item, METADATA_BYTES_MAX, Visit, metadata_bytes};

/// Longest line of a JSON manifest: the longest metadata, with escapes and a path.
const LINE_BYTES_MAX: u64 = 1 << 20;

/// A list of recordings.
#[derive(Debug)]
pub(super) struct Manifest {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    /// With a header; the byte separates the fields.
    Separated(u8),
    /// One JSON object a line.
    JsonLines,
}

/// One row: names and texts, without the empty ones.
type Fields = BTreeMap<String, String>;

impl Manifest {
    /// Looks at the name and the first line.
    ///
    /// # Errors
    ///
    /// If it cannot be read, is of no known kind or has no column `path`.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let name = path.display();
        let extension = path.extension().and_then(|text| text.to_str()).unwrap_or_default();
        let kind = match extension.to_ascii_lowercase().as_str() {
            "csv" => Kind::Separated(b','),
            "tsv" => Kind::Separated(b'\t'),
            "jsonl" | "ndjson" => Kind::JsonLines,
            _ => bail!("{name}: a manifest ends in .csv, .tsv or .jsonl; rename or convert it"),
        };
        let manifest = Self { path: path.to_owned(), kind };
        let file = manifest.file()?;
        if let Kind::Separated(separator) = kind {
            let mut reader = separated(file, separator);
            let header = reader.headers().with_context(|| format!("{name}: no header line"))?;
            if !header.iter().any(|column| column.trim() == "path") {
                let columns = header.iter().collect::<Vec<_>>().join(", ");
                bail!("{name}: the header has no column named path, only: {columns}");
            }
        }
        Ok(manifest)
    }

    /// Visits all rows.
    pub(super) fn visit(&self, visit: Visit<'_>) -> Flow {
        let refused = |reason: String| Entry::Refused { path: self.path.clone(), reason };
        let file = match self.file() {
            Ok(file) => file,
            Err(error) => return visit(refused(format!("{error:#}"))),
        };
        let mut on_row = |line: u64, row: Result<Fields>| {
            let item = row.and_then(|fields| self.item(fields));
            visit(match item {
                Ok(item) => Entry::File(item),
                Err(error) => refused(format!("line {line}: {error:#}")),
            })
        };
        match self.kind {
            Kind::Separated(separator) => visit_separated(file, separator, &mut on_row),
            Kind::JsonLines => visit_json_lines(file, &mut on_row),
        }
    }

    fn file(&self) -> Result<File> {
        File::open(&self.path)
            .with_context(|| format!("{}: could not be read", self.path.display()))
    }

    fn item(&self, mut fields: Fields) -> Result<Item> {
        fields.retain(|_, text| !text.is_empty());
        let path = fields.remove("path").context("the field path is missing")?;
        let folder = self.path.parent().unwrap_or(Path::new(""));
        for name in ["track_id", "title", "artist", "album", "isrc"] {
            if fields.get(name).is_some_and(|text| text.contains('\n')) {
                bail!("the field {name} goes over several lines; is a double quote not closed?");
            }
        }
        let track_id = fields.remove("track_id").map(TrackId::new).transpose()?;
        let metadata = Metadata {
            title: fields.remove("title"),
            artist: fields.remove("artist"),
            album: fields.remove("album"),
            isrc: fields.remove("isrc"),
            attributes: fields,
        };
        let bytes = metadata_bytes(&metadata);
        if bytes > METADATA_BYTES_MAX {
            bail!(
                "{bytes} bytes of metadata, at most {METADATA_BYTES_MAX} are allowed; shorten it"
            );
        }
        Ok(Item { path: folder.join(path), track_id, metadata })
    }
}

type OnRow<'a> = &'a mut dyn FnMut(u64, Result<Fields>) -> Flow;

fn separated(file: File, separator: u8) -> csv::Reader<File> {
    // Rows of another length are told apart below, with a better message.
    csv::ReaderBuilder::new().delimiter(separator).flexible(true).from_reader(file)
}

fn visit_separated(file: File, separator: u8, on_row: OnRow<'_>) -> Flow {
    let mut reader = separated(file, separator);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return on_row(1, Err(error.into())),
    };
    let mut record = csv::StringRecord::new();
    loop {
        let line = reader.position().line();
        match reader.read_record(&mut record) {
            Ok(false) => return ControlFlow::Continue(()),
            Ok(true) => {
                let line = record.position().map_or(line, csv::Position::line);
                on_row(line, fields(&header, &record))?;
            }
            Err(error) if error.is_io_error() => return on_row(line, Err(error.into())),
            Err(error) => on_row(line, Err(error.into()))?,
        }
    }
}

fn fields(header: &csv::StringRecord, record: &csv::StringRecord) -> Result<Fields> {
    if record.len() != header.len() {
        bail!(
            "{} fields under a header of {}; put texts that hold a separator in double quotes",
            record.len(),
            header.len()
        );
    }
    let names = header.iter().map(|name| name.trim().to_owned());
    Ok(names.zip(record.iter().map(|text| text.trim().to_owned())).collect())
}

fn visit_json_lines(file: File, on_row: OnRow<'_>) -> Flow {
    let mut reader = BufReader::new(file);
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        match (&mut reader).take(LINE_BYTES_MAX + 1).read_until(b'\n', &mut text) {
            Ok(0) => break,
            Ok(_) if text.len() as u64 > LINE_BYTES_MAX => {
                if let Err(error) = reader.skip_until(b'\n') {
                    return on_row(line, Err(error.into()));
                }
                on_row(line, Err(anyhow!("longer than {LINE_BYTES_MAX} bytes; not read")))?;
            }
            Ok(_) if text.trim_ascii().is_empty() => {}
            Ok(_) => on_row(line, json_fields(&text))?,
            Err(error) => return on_row(line, Err(error.into())),
        }
    }
    ControlFlow::Continue(())
}

fn json_fields(text: &[u8]) -> Result<Fields> {
    // A byte order mark, as some editors put before the first line.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let object: BTreeMap<String, Value> =
        serde_json::from_slice(text).context("not a JSON object")?;
    let known = ["path", "track_id", "title", "artist", "album", "isrc"];
    let is_text = |value: &Value| matches!(value, Value::Null | Value::String(_));
    if let Some(name) = known.iter().find(|name| object.get(**name).is_some_and(|v| !is_text(v))) {
        bail!("the field {name} is not a text; put it in double quotes");
    }
    let as_text = |value| match value {
        Value::Null => String::new(),
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(object.into_iter().map(|(name, value)| (name, as_text(value))).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn entries(name: &str, text: &[u8]) -> (PathBuf, Vec<Entry>) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let mut entries = Vec::new();
        let flow = Manifest::open(&path).unwrap().visit(&mut |entry| {
            entries.push(entry);
            ControlFlow::Continue(())
        });
        assert!(flow.is_continue());
        (folder.path().to_owned(), entries)
    }

    fn item(entry: &Entry) -> &Item {
        match entry {
            Entry::File(item) => item,
            other => panic!("no file: {other:?}"),
        }
    }

    fn reason(entry: &Entry) -> &str {
        match entry {
            Entry::Refused { reason, .. } => reason,
            other => panic!("not refused: {other:?}"),
        }
    }

    #[test]
    fn both_kinds_say_the_same() {
        let csv = "\u{feff}path,track_id,title,artist,album,isrc,policy\n\
                   sub/a.mp3, T1 ,\"Title, the\",,,,block\n/abs/b.mp3,,,,,,\n";
        let json = "{\"path\":\"sub/a.mp3\",\"track_id\":\"T1\",\"title\":\"Title, the\",\
                    \"album\":null,\"policy\":\"block\"}\n\n{\"path\":\"/abs/b.mp3\"}";
        for (name, text) in [("m.csv", csv), ("m.jsonl", json)] {
            let (folder, entries) = entries(name, text.as_bytes());
            assert_eq!(entries.len(), 2, "{name}");
            let first = item(&entries[0]);
            assert_eq!(first.path, folder.join("sub/a.mp3"), "{name}");
            assert_eq!(first.track_id.as_ref().unwrap().as_str(), "T1");
            assert_eq!(first.metadata.title.as_deref(), Some("Title, the"));
            assert_eq!(first.metadata.album, None);
            assert_eq!(first.metadata.attributes, [("policy".into(), "block".into())].into());
            assert_eq!(item(&entries[1]), &Item::bare("/abs/b.mp3".into()));
        }
    }

    #[test]
    fn a_bad_row_is_refused_with_its_line_and_the_next_is_read() {
        let csv = b"path,title\n,x\na.mp3\n\xff,y\nb.mp3,z\n";
        let (_, entries) = entries("m.csv", csv);
        assert!(reason(&entries[0]).starts_with("line 2: the field path"), "{entries:?}");
        assert!(reason(&entries[1]).starts_with("line 3: 1 fields"), "{entries:?}");
        assert!(reason(&entries[2]).starts_with("line 4: "), "{entries:?}");
        assert_eq!(item(&entries[3]).metadata.title.as_deref(), Some("z"));
        let (_, entries) =
            self::entries("m.jsonl", b"[]\n{\"path\":\"a\",\"track_id\":\"\\u0001\"}\n{");
        assert_eq!(entries.len(), 3);
        for (line, entry) in (1..).zip(&entries) {
            assert!(reason(entry).starts_with(&format!("line {line}: ")), "{entry:?}");
        }
    }

    #[test]
    fn values_that_are_no_texts_are_kept_as_json() {
        let (_, entries) =
            entries("m.jsonl", b"{\"path\":\"a\",\"year\":1999,\"live\":true,\"x\":[1]}");
        let attributes = &item(&entries[0]).metadata.attributes;
        let expected = [("live", "true"), ("x", "[1]"), ("year", "1999")];
        assert!(attributes.iter().map(|(k, v)| (k.as_str(), v.as_str())).eq(expected));
    }

    #[test]
    fn metadata_is_limited_at_its_limit() {
        let row = |title_len| format!("path,title\na,{}\n", "x".repeat(title_len));
        let (_, at_limit) = entries("m.csv", row(METADATA_BYTES_MAX).as_bytes());
        item(&at_limit[0]);
        let (_, beyond) = entries("m.csv", row(METADATA_BYTES_MAX + 1).as_bytes());
        assert!(reason(&beyond[0]).contains("shorten"), "{beyond:?}");
    }

    #[test]
    fn an_endless_line_ends_the_reading() {
        let limit = usize::try_from(LINE_BYTES_MAX).unwrap();
        let (_, entries) = entries("m.jsonl", &vec![b' '; 3 * limit]);
        assert_eq!(entries.len(), 1);
        assert!(reason(&entries[0]).contains("longer than"), "{entries:?}");
    }

    #[test]
    fn what_is_no_manifest_is_an_error_at_once() {
        let folder = tempfile::tempdir().unwrap();
        for (name, text, part) in
            [("m.txt", "path\n", ".csv"), ("m.csv", "title\n", "path"), ("m.csv", "", "path")]
        {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", Manifest::open(&path).unwrap_err());
            assert!(error.contains(part), "{error}");
        }
        assert!(Manifest::open(&folder.path().join("missing.csv")).is_err());
    }
}
