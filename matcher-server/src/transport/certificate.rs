//! What a certificate says about itself: when it ends, and whose it is.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::SystemTime;

use rustls_pki_types::CertificateDer;
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// Most of a subject that is logged, in characters.
const SUBJECT_MAX: usize = 128;

/// When the first of these certificates ends. One that is not understood does not count.
pub(super) fn first_end(chain: &[CertificateDer<'_>]) -> Option<SystemTime> {
    chain.iter().filter_map(end).min()
}

fn end(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let since = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    SystemTime::UNIX_EPOCH.checked_add(since)
}

/// Whose a certificate is, for people and for the log: its common name, else the first of its alternative names, else
/// its number, with the kind of it before. Escaped, and no longer than 128 characters.
pub(super) fn subject(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = Certificate::from_der(certificate).ok()?;
    let common_name = certificate.tbs_certificate().subject().common_name().ok().flatten();
    let common_name = common_name.map(String::from).filter(|name| !name.is_empty());
    let name = match common_name {
        Some(name) => format!("CN={name}"),
        None => alternative_name(&certificate).unwrap_or_else(|| serial_number(&certificate)),
    };
    let mut escaped = String::new();
    // A quotation mark harms nobody; whatever changes lines or colours, or is not seen, might.
    for character in name.chars().take(SUBJECT_MAX) {
        match character {
            '"' | '\'' => escaped.push(character),
            _ => escaped.extend(character.escape_debug()),
        }
    }
    Some(escaped.chars().take(SUBJECT_MAX).collect())
}

fn alternative_name(certificate: &Certificate) -> Option<String> {
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok()??.1.0;
    names.iter().find_map(|name| match name {
        GeneralName::DnsName(name) => Some(format!("DNS:{name}")),
        GeneralName::UniformResourceIdentifier(name) => Some(format!("URI:{name}")),
        GeneralName::Rfc822Name(name) => Some(format!("email:{name}")),
        GeneralName::IpAddress(bytes) => {
            let bytes = bytes.as_bytes();
            let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).to_string());
            let address = four.or_else(|_| {
                <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).to_string())
            });
            address.ok().map(|address| format!("IP:{address}"))
        }
        _ => None,
    })
}

fn serial_number(certificate: &Certificate) -> String {
    let bytes = certificate.tbs_certificate().serial_number().as_bytes();
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("serial={}", digits.join(":"))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, SerialNumber, date_time_ymd};

    use super::*;

    fn certificate(change: impl FnOnce(&mut CertificateParams)) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().clone()
    }

    #[test]
    fn a_chain_ends_with_the_first_of_its_certificates() {
        let until = |year| certificate(|params| params.not_after = date_time_ymd(year, 1, 1));
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let chain = [until(2041), until(2031), until(2051)];
        assert_eq!(first_end(&chain).map(seconds), Some(1_924_992_000));
        let broken = CertificateDer::from(vec![0x30, 0x82, 0xff]);
        assert_eq!(first_end(&[broken.clone(), until(2031)]).map(seconds), Some(1_924_992_000));
        assert_eq!((first_end(std::slice::from_ref(&broken)), subject(&broken)), (None, None));
    }

    #[test]
    fn a_subject_is_the_most_telling_name_that_there_is() {
        let named = |name: &str| {
            let name = name.to_owned();
            certificate(|params| params.distinguished_name.push(DnType::CommonName, name))
        };
        assert_eq!(subject(&named("upload pipeline")).unwrap(), "CN=upload pipeline");
        assert_eq!(subject(&named("Müller \"A\"")).unwrap(), "CN=Müller \"A\"");
        for (alternative, expected) in [
            (SanType::DnsName("a.example".try_into().unwrap()), "DNS:a.example"),
            (SanType::URI("spiffe://a/b".try_into().unwrap()), "URI:spiffe://a/b"),
            (SanType::Rfc822Name("a@b.example".try_into().unwrap()), "email:a@b.example"),
            (SanType::IpAddress([127, 0, 0, 1].into()), "IP:127.0.0.1"),
        ] {
            let certificate = certificate(|params| params.subject_alt_names = vec![alternative]);
            assert_eq!(subject(&certificate).unwrap(), expected);
        }
        let nameless =
            certificate(|params| params.serial_number = Some(SerialNumber::from(0x1a2b)));
        assert_eq!(subject(&nameless).unwrap(), "serial=1a:2b");
    }

    #[test]
    fn no_subject_breaks_a_line_or_fills_the_log() {
        let named = |name: String| {
            subject(&certificate(|params| {
                params.distinguished_name.push(DnType::CommonName, name);
            }))
        };
        let hostile = named("a\nb\u{1b}[31m\u{202e}".to_owned()).unwrap();
        assert_eq!(hostile, "CN=a\\nb\\u{1b}[31m\\u{202e}");
        assert_eq!(named("x".repeat(1_000)).unwrap().len(), SUBJECT_MAX);
        assert_eq!(named("\u{1b}".repeat(1_000)).unwrap().len(), SUBJECT_MAX);
    }
}
