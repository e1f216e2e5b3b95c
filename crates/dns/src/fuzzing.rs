//! A door for the fuzz targets: messages of clients and of upstream servers, without sockets.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use parking_lot::RwLock;
use sampan_api::Object;

use crate::Upstreams;
use crate::forward::{self, Forwarder};
use crate::index::Index;
use crate::index::objects::{Service, Slice};
use crate::message::{Question, Rejected, Transport};
use crate::server::{Handler, Immediate, complete};
use crate::zone::Zone;

/// Answers messages from an index, and from what an upstream server is said to have sent.
pub struct Resolver {
    handler: Handler,
}

impl Resolver {
    /// A resolver of a zone that knows a namespace, services, and slices of services' endpoints.
    pub fn new(zone: Zone, namespace: &str, objects: &[Object]) -> Result<Self, serde_json::Error> {
        let mut index = Index::default();
        index.apply_namespace(namespace);
        for object in objects {
            match Slice::read(object)? {
                Some(slice) => index.apply_slice(slice),
                None => index.apply_service(Service::read(object)?),
            }
        }
        let (index, rotation) = (Arc::new(RwLock::new(index)), AtomicUsize::new(0));
        Ok(Resolver { handler: Handler { zone, index, forwarder: forwarder(), rotation } })
    }

    /// What a client's message is answered over UDP and over TCP; `None` where nothing is sent. Whatever
    /// name outside of the cluster it asks for, `upstream` is what came for it.
    pub fn answer(&mut self, bytes: &[u8], upstream: &[u8]) -> Option<[Vec<u8>; 2]> {
        let question = match Question::read(bytes) {
            Ok(question) => question,
            Err(Rejected::Drop) => return None,
            Err(Rejected::Answer(bytes)) => return Some([bytes.clone(), bytes]),
        };
        // Nothing is kept from one question to the next.
        self.handler.forwarder = forwarder();
        self.handler.rotation = AtomicUsize::new(0);
        let answer = match self.handler.immediate(&question) {
            Immediate::Answered(answer) => answer,
            Immediate::Ask { key, aliases } => match self.handler.forwarder.received(&key, upstream) {
                Ok(answer) => complete(&question, aliases, answer),
                Err(_) => forward::failure(),
            },
        };
        let transports = [Transport::Udp, Transport::Tcp];
        Some(transports.map(|transport| question.encode(answer.clone(), transport)))
    }
}

fn forwarder() -> Forwarder {
    Forwarder::new(Upstreams::Fixed(Vec::new()), Vec::new())
}
