//! Why a request was refused that would have been answered on another day.

/// What was at its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// As many requests are open as may be.
    RequestsOpen,
    /// As many are open of one client that bring audio as may be.
    ClientRequestsOpen,
    /// There is no memory for a message as large.
    Memory,
    /// As many jobs wait as may.
    QueueFull,
    /// It would have waited longer than clips take, or has.
    QueueSlow,
    /// It takes long and is in the way of others, and neither is there a place for that nor room to wait for one.
    LongFull,
    /// It would not have been done by its deadline.
    Deadline,
    /// As many uploads are received as may be.
    UploadsOpen,
    /// As many streams are followed as may be.
    StreamsOpen,
    /// The same of encoded audio.
    EncodedStreamsOpen,
    /// The system gave no thread.
    Threads,
    /// A key's requests a second.
    KeyRate,
    /// A key's requests at a time.
    KeyConcurrent,
    /// A batch that is larger than a key may ever send at once.
    KeyBatch,
}

impl Refusal {
    /// All of them.
    pub(crate) const ALL: [Self; 14] = [
        Self::RequestsOpen,
        Self::ClientRequestsOpen,
        Self::Memory,
        Self::QueueFull,
        Self::QueueSlow,
        Self::LongFull,
        Self::Deadline,
        Self::UploadsOpen,
        Self::StreamsOpen,
        Self::EncodedStreamsOpen,
        Self::Threads,
        Self::KeyRate,
        Self::KeyConcurrent,
        Self::KeyBatch,
    ];

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RequestsOpen => "requests_open",
            Self::ClientRequestsOpen => "client_requests_open",
            Self::Memory => "memory",
            Self::QueueFull => "queue_full",
            Self::QueueSlow => "queue_slow",
            Self::LongFull => "long_full",
            Self::Deadline => "deadline",
            Self::UploadsOpen => "uploads_open",
            Self::StreamsOpen => "streams_open",
            Self::EncodedStreamsOpen => "encoded_streams_open",
            Self::Threads => "threads",
            Self::KeyRate => "key_rate",
            Self::KeyConcurrent => "key_concurrent",
            Self::KeyBatch => "key_batch",
        }
    }
}
