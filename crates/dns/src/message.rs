//! Questions in, answers out: the bytes of DNS messages (RFC 1035, RFC 6891).

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable as _, BinEncoder};

/// The largest UDP payload that is sent or asked for: what passes every link unfragmented.
pub const UDP_PAYLOAD: u16 = 1232;
/// The size of UDP messages of clients without EDNS.
const UDP_PAYLOAD_PLAIN: u16 = 512;
/// The bytes of an OPT record without options.
const OPT_LENGTH: u16 = 11;
const HEADER_LENGTH: usize = 12;

/// One question of a client, and what its answer must heed.
#[derive(Clone, Debug)]
pub struct Question {
    id: u16,
    pub query: Query,
    pub recursion_desired: bool,
    pub checking_disabled: bool,
    /// The client's OPT record: its payload size and whether it wants DNSSEC records.
    edns: Option<ClientEdns>,
}

#[derive(Clone, Copy, Debug)]
struct ClientEdns {
    payload: u16,
    dnssec_ok: bool,
}

/// Bytes that get no answer from the index or from upstream.
#[derive(Debug)]
pub enum Rejected {
    /// Not even a question: nothing is sent, so that two servers never answer one another.
    Drop,
    /// An answer that says what is wrong.
    Answer(Vec<u8>),
}

/// The sections of an answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: ResponseCode,
    pub authoritative: bool,
    pub answers: Vec<Record>,
    pub authorities: Vec<Record>,
    pub additionals: Vec<Record>,
}

impl Answer {
    /// An answer without records.
    pub fn code(code: ResponseCode) -> Self {
        Answer {
            code,
            authoritative: false,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
        }
    }
}

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Udp,
    Tcp,
}

impl Question {
    /// Reads a message of a client.
    pub fn read(bytes: &[u8]) -> Result<Self, Rejected> {
        if bytes.len() < HEADER_LENGTH {
            return Err(Rejected::Drop);
        }
        let word = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let (id, flags) = (word(0), word(2));
        if flags & 0x8000 != 0 {
            return Err(Rejected::Drop);
        }
        let op_code = OpCode::from_u8((flags >> 11 & 0xf) as u8);
        if op_code != OpCode::Query {
            return Err(Rejected::error(id, op_code, ResponseCode::NotImp));
        }
        // The counts are checked before anything is reserved for what they promise.
        if word(4) != 1 || word(6) != 0 || word(8) != 0 || word(10) > 8 {
            return Err(Rejected::error(id, op_code, ResponseCode::FormErr));
        }
        let Ok(mut message) = Message::from_vec(bytes) else {
            return Err(Rejected::error(id, op_code, ResponseCode::FormErr));
        };
        let Some(query) = message.queries.pop() else {
            return Err(Rejected::error(id, op_code, ResponseCode::FormErr));
        };
        let edns = message.edns.as_ref().map(|edns| ClientEdns {
            payload: edns.max_payload().max(UDP_PAYLOAD_PLAIN),
            dnssec_ok: edns.flags().dnssec_ok,
        });
        let question = Question {
            id,
            query,
            recursion_desired: message.metadata.recursion_desired,
            checking_disabled: message.metadata.checking_disabled,
            edns,
        };
        let refusal = match (question.query.query_class(), question.query.query_type()) {
            _ if message.edns.as_ref().is_some_and(|edns| edns.version() > 0) => ResponseCode::BADVERS,
            (DNSClass::IN, RecordType::AXFR | RecordType::IXFR) => ResponseCode::NotImp,
            (DNSClass::IN, _) => return Ok(question),
            _ => ResponseCode::Refused,
        };
        Err(Rejected::Answer(question.encode(Answer::code(refusal), Transport::Udp)))
    }

    pub fn name(&self) -> &Name {
        self.query.name()
    }

    pub fn kind(&self) -> RecordType {
        self.query.query_type()
    }

    pub fn dnssec_ok(&self) -> bool {
        self.edns.is_some_and(|edns| edns.dnssec_ok)
    }

    /// The bytes of an answer, cut to what the client takes.
    pub fn encode(&self, answer: Answer, transport: Transport) -> Vec<u8> {
        let mut message = Message::response(self.id, OpCode::Query);
        message.metadata.response_code = answer.code;
        message.metadata.authoritative = answer.authoritative;
        message.metadata.recursion_desired = self.recursion_desired;
        message.metadata.recursion_available = true;
        message.metadata.checking_disabled = self.checking_disabled;
        message.queries.push(self.query.clone());
        message.answers = answer.answers;
        message.authorities = answer.authorities;
        message.additionals = answer.additionals;
        let limit = match (transport, self.edns) {
            (Transport::Tcp, _) => u16::MAX,
            (Transport::Udp, Some(edns)) => edns.payload.min(UDP_PAYLOAD),
            (Transport::Udp, None) => UDP_PAYLOAD_PLAIN,
        };
        let edns = self.edns.map(|client| {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_PAYLOAD);
            edns.set_dnssec_ok(client.dnssec_ok);
            edns
        });
        // The OPT record comes last but must always fit.
        let room = if edns.is_some() { limit - OPT_LENGTH } else { limit };
        let (mut bytes, whole) = encode(&message, room);
        if !whole {
            let fitting = bytes.get(6..8).map_or(0, |count| u16::from_be_bytes([count[0], count[1]]));
            // Without its additional records an answer is still whole.
            message.metadata.truncation = usize::from(fitting) < message.answers.len();
            message.answers.truncate(fitting.into());
            message.authorities.clear();
            message.additionals.clear();
            bytes.clear();
        }
        if edns.is_some() || !whole {
            message.edns = edns;
            bytes = encode(&message, limit).0;
        }
        bytes
    }
}

impl Rejected {
    fn error(id: u16, op_code: OpCode, code: ResponseCode) -> Self {
        let mut message = Message::new(id, MessageType::Response, op_code);
        message.metadata.response_code = code;
        Rejected::Answer(encode(&message, UDP_PAYLOAD_PLAIN).0)
    }
}

/// The bytes of a message, and whether all of it fitted.
fn encode(message: &Message, limit: u16) -> (Vec<u8>, bool) {
    let mut bytes = Vec::with_capacity(512);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_max_size(limit);
    let written = message.emit(&mut encoder).is_ok();
    let whole = written && bytes.get(2).is_some_and(|flags| flags & 0x02 == 0);
    if !written {
        // Not even the question fits, or a record is longer than a message can be.
        bytes.clear();
    }
    (bytes, whole)
}
