//! Which servers questions about other names are sent to.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::Mutex;

/// The most servers that are used of a file.
const SERVERS: usize = 8;
/// The most bytes that are read of a file.
const FILE_BYTES: u64 = 64 * 1024;
const PORT: u16 = 53;

/// Where upstream servers are named.
#[derive(Clone, Debug)]
pub enum Upstreams {
    /// The `nameserver` lines of a file as resolv.conf(5), read again when the file changed.
    ResolvConf(PathBuf),
    Fixed(Vec<SocketAddr>),
}

/// The upstream servers of now.
pub struct UpstreamList {
    source: Upstreams,
    /// This server's own addresses, which are never asked.
    own: Vec<SocketAddr>,
    read: Mutex<Read>,
}

#[derive(Default)]
struct Read {
    modified: Option<SystemTime>,
    servers: Arc<[SocketAddr]>,
}

impl UpstreamList {
    pub fn new(source: Upstreams, own: Vec<SocketAddr>) -> Self {
        UpstreamList { source, own, read: Mutex::new(Read::default()) }
    }

    /// The servers, in the order in which they are to be asked. A file that cannot be read names
    /// none.
    pub fn servers(&self) -> Arc<[SocketAddr]> {
        let path = match &self.source {
            Upstreams::Fixed(servers) => return self.others(servers.iter().copied()),
            Upstreams::ResolvConf(path) => path,
        };
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let mut read = self.read.lock();
        if modified.is_none() || read.modified != modified {
            let text = read_start(path).unwrap_or_else(|error| {
                tracing::debug!(path = %path.display(), %error, "no upstream DNS servers");
                String::new()
            });
            read.servers = self.others(parse(&text));
            read.modified = modified;
        }
        read.servers.clone()
    }

    fn others(&self, servers: impl Iterator<Item = SocketAddr>) -> Arc<[SocketAddr]> {
        servers.filter(|server| !self.own.contains(server)).take(SERVERS).collect()
    }
}

fn read_start(path: &std::path::Path) -> std::io::Result<String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_BYTES).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The servers that a resolv.conf(5) names.
fn parse(text: &str) -> impl Iterator<Item = SocketAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        if words.next() != Some("nameserver") {
            return None;
        }
        let address: IpAddr = words.next()?.parse().ok()?;
        Some(SocketAddr::new(address, PORT))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nameserver_lines_are_read() {
        let check = |text: &str, expected: &[&str]| {
            let servers: Vec<String> = parse(text).map(|server| server.to_string()).collect();
            assert_eq!(servers, expected, "{text:?}");
        };
        check("", &[]);
        check("nameserver 1.2.3.4\n\n# nameserver 5.6.7.8\nsearch a b\n", &["1.2.3.4:53"]);
        check("nameserver\t::1 # why\nnameserver x\nnameserver 1.1.1.1", &["[::1]:53", "1.1.1.1:53"]);
        check("options ndots:5\nnameservers 1.2.3.4\nnameserver", &[]);
    }

    #[test]
    fn a_changed_file_is_read_again_and_the_own_address_left_out() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let write = |text: &str, seconds| {
            std::fs::write(file.path(), text).expect("written");
            let time = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            std::fs::File::options().write(true).open(file.path()).and_then(|file| file.set_modified(time))
        };
        let own = "10.43.0.10:53".parse().expect("an address");
        let list = UpstreamList::new(Upstreams::ResolvConf(file.path().to_owned()), vec![own]);
        write("nameserver 10.43.0.10\nnameserver 192.0.2.1", 1).expect("a time");
        assert_eq!(&*list.servers(), ["192.0.2.1:53".parse().expect("an address")]);
        write("nameserver 192.0.2.2", 2).expect("a time");
        assert_eq!(&*list.servers(), ["192.0.2.2:53".parse().expect("an address")]);
        std::fs::remove_file(file.path()).expect("removed");
        assert!(list.servers().is_empty());
    }
}
