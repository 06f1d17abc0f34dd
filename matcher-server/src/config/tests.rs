use super::*;

fn parse(text: &str) -> Result<Settings, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("server.toml");
    std::fs::write(&path, text).unwrap();
    Settings::from_file(&path)
}

#[test]
fn the_stronger_setting_wins_and_the_weaker_fills_in() {
    let strong = parse("index = '/i'\nworkers = 3").unwrap();
    let weak = parse("index = '/j'\nqueue_len = 5\nmessage_max = '1MiB'").unwrap();
    let config = strong.or(weak).resolve().unwrap();
    assert_eq!(config.index, Path::new("/i"));
    assert_eq!((config.workers, config.queue_len, config.message_bytes_max), (3, 5, 1 << 20));
    assert_eq!(config.listen, "127.0.0.1:50051");
    assert_eq!(config.shutdown_time_max, Duration::from_secs(10));
    assert_eq!(config.drain_delay, Duration::ZERO);
}

#[test]
fn an_unknown_name_or_a_bad_value_is_named() {
    for (text, name) in [
        ("wrokers = 3", "wrokers"),
        ("workers = 'three'", "workers"),
        ("message_max = '3 parsecs'", "3 parsecs"),
        ("request_time_max = 'soon'", "soon"),
        ("log_format = 'xml'", "xml"),
    ] {
        let message = parse(text).unwrap_err().to_string();
        assert!(message.contains(name) && message.contains("server.toml"), "{message}");
    }
    assert!(matches!(Settings::default().resolve(), Err(ConfigError::NoIndex)));
}

#[test]
fn numbers_are_checked_at_both_ends() {
    let with = |text: &str| parse(&format!("index = 'i'\n{text}")).unwrap().resolve();
    for good in ["workers = 1", "workers = 100000", "queue_len = 0", "message_max = '1KiB'"] {
        assert!(with(good).is_ok(), "{good}");
    }
    for bad in [
        "requests_memory_max = '63MiB'",
        "workers = 0",
        "workers = 100001",
        "message_max = '1023'",
        "message_max = '2147483649'",
    ] {
        assert!(matches!(with(bad), Err(ConfigError::OutOfRange { .. })), "{bad}");
    }
}

#[test]
fn what_is_printed_can_be_read_again() {
    let settings = Settings { index: Some("/i".into()), ..Settings::defaults() };
    assert_eq!(parse(&settings.to_toml().unwrap()).unwrap(), settings);
}

#[test]
fn tls_is_set_up_as_a_whole() {
    let with = |text: &str| parse(&format!("index = 'i'\n{text}")).unwrap().resolve();
    assert_eq!(with("").unwrap().tls, None);
    let tls = with("tls_cert = 'c'\ntls_key = 'k'").unwrap().tls.unwrap();
    assert_eq!((tls.cert, tls.client_ca), ("c".into(), None));
    assert!(with("tls_cert = 'c'\ntls_key = 'k'\ntls_client_ca = 'a'").is_ok());
    for half in ["tls_cert = 'c'", "tls_key = 'k'", "tls_client_ca = 'a'"] {
        assert!(matches!(with(half), Err(ConfigError::TlsHalf)), "{half}");
    }
}

#[test]
fn an_index_is_followed_or_backed_up() {
    let with = |text: &str| parse(&format!("index = 'i'\n{text}")).unwrap().resolve();
    assert_eq!(with("follow = '500ms'").unwrap().follow, Some(Duration::from_millis(500)));
    assert_eq!(with("").unwrap().follow, None);
    assert_eq!(with("backup_dir = '/b'").unwrap().backup_dir, Some("/b".into()));
    assert!(matches!(with("follow = '0s'"), Err(ConfigError::OutOfRange { name: "follow", .. })));
    let both = with("follow = '1s'\nbackup_dir = '/b'").unwrap_err();
    assert!(both.to_string().contains("unset one"), "{both}");
}

#[test]
fn sizes_have_units() {
    for (text, bytes) in
        [("0", 0), ("7", 7), ("2KiB", 2048), ("32MiB", 32 << 20), ("1 GiB", 1 << 30)]
    {
        assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
    }
    for bad in ["", "-1", "MiB", "1.5MiB", "1MB", "99999999999GiB"] {
        assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
    }
    assert_eq!(ByteSize(1 << 20).to_string(), "1MiB");
    assert_eq!(ByteSize(1025).to_string(), "1025");
}

#[test]
fn none_means_no_external_program() {
    let config = parse("index = 'i'\nffmpeg = 'none'").unwrap().resolve().unwrap();
    assert_eq!(config.ffmpeg, None);
}
