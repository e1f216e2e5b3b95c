//! A node in network and mount namespaces of its own, which vanish with the test's thread.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use sampan_net::link::{self, Attachment};
use sampan_net::services::{ServiceRules, plan};
use sampan_net::{
    Applied, Ipam, NodeNetwork, Protocol, Service, ServicePort, ServiceTable, ensure_node, namespace,
};

/// How long a connection may take that must come about, or that must not.
const PATIENCE: Duration = Duration::from_secs(5);
const IMPATIENCE: Duration = Duration::from_millis(300);

/// Runs a test where it can disturb nobody.
pub fn isolated(test: impl FnOnce() + Send + 'static) {
    let run = move || {
        unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("these tests need root");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("private mounts");
        test();
    };
    if let Err(panic) = thread::spawn(run).join() {
        std::panic::resume_unwind(panic);
    }
}

pub fn network() -> NodeNetwork {
    NodeNetwork {
        bridge: "sampan0".to_owned(),
        mtu: 1500,
        pod_cidr: "10.244.1.0/24".parse().expect("a range"),
        cluster_cidr: "10.244.0.0/16".parse().expect("a range"),
        service_cidr: "10.96.0.0/16".parse().expect("a range"),
        dns_ip: Some(ip("10.96.0.10")),
        node_ips: Vec::new(),
        node_port_addresses: Vec::new(),
        cluster_links: Vec::new(),
        forward_from_outside: false,
        table: "sampan".to_owned(),
    }
}

pub fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip(address), port)
}

/// A node with its pods and services.
pub struct Node {
    pub network: NodeNetwork,
    pub ipam: Ipam,
    pub rules: ServiceRules,
    directory: tempfile::TempDir,
}

pub struct Pod {
    pub namespace: PathBuf,
    pub attachment: Attachment,
}

impl Node {
    pub fn new() -> Self {
        Node::with(network())
    }

    pub fn with(network: NodeNetwork) -> Self {
        run(&["ip", "link", "set", "lo", "up"]);
        ensure_node(&network).expect("the node's network");
        let ipam = Ipam::new(network.pod_cidr).expect("room");
        let directory = tempfile::tempdir().expect("a directory");
        Node { network, ipam, rules: ServiceRules::new(), directory }
    }

    pub fn pod(&mut self, uid: &str) -> Pod {
        let address = self.ipam.allocate().expect("an address");
        let namespace = self.directory.path().join("netns").join(uid);
        namespace::create(&namespace).expect("a namespace");
        let attachment = link::attach(&self.network, uid, &namespace, &[address]).expect("a link");
        Pod { namespace, attachment }
    }

    pub fn apply(&mut self, services: Vec<Service>) -> Applied {
        self.rules
            .apply(plan(&self.network, &ServiceTable { services, ..ServiceTable::default() }))
            .expect("rules")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for entry in std::fs::read_dir(self.directory.path().join("netns")).into_iter().flatten().flatten() {
            let removed = namespace::delete(&entry.path());
            if !thread::panicking() {
                removed.expect("a namespace is removed");
            }
        }
    }
}

impl Pod {
    pub fn address(&self) -> IpAddr {
        self.attachment.addresses[0]
    }

    pub fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        namespace::run_in(&self.namespace, work).expect("inside the pod")
    }

    /// Serves TCP: says a name and who asks, then echoes.
    pub fn serve(&self, port: u16) -> SocketAddr {
        let (name, address) = (self.attachment.pod_uid.clone(), SocketAddr::new(self.address(), port));
        let listener = self.inside(|| TcpListener::bind(address).expect("a listener"));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let name = name.clone();
                thread::spawn(move || greet(stream, &name));
            }
        });
        address
    }

    /// Serves UDP: answers with a name.
    pub fn serve_udp(&self, port: u16) -> SocketAddr {
        let (name, address) = (self.attachment.pod_uid.clone(), SocketAddr::new(self.address(), port));
        let socket = self.inside(|| UdpSocket::bind(address).expect("a socket"));
        thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(name.as_bytes(), peer);
            }
        });
        address
    }
}

pub fn greet(stream: TcpStream, name: &str) -> std::io::Result<()> {
    let peer = stream.peer_addr()?.ip();
    let mut writer = stream.try_clone()?;
    writeln!(writer, "{name} {peer}")?;
    let mut reader = stream;
    let mut buffer = [0; 1024];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            count => writer.write_all(&buffer[..count])?,
        }
    }
}

/// A connection, the server's name, and the address that the server saw.
pub struct Greeting {
    pub server: String,
    pub seen_as: IpAddr,
    stream: TcpStream,
}

impl Greeting {
    /// Whether the connection still carries bytes both ways.
    pub fn echoes(&mut self) -> bool {
        let mut answer = [0; 4];
        self.stream.write_all(b"ping").is_ok()
            && self.stream.read_exact(&mut answer).is_ok()
            && &answer == b"ping"
    }
}

pub fn greeting(address: SocketAddr) -> std::io::Result<Greeting> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let (server, seen_as) = line.trim().split_once(' ').expect("a greeting");
    Ok(Greeting { server: server.to_owned(), seen_as: seen_as.parse().expect("an address"), stream })
}

/// The kind of error that the kernel or the other side answers a connection with.
pub fn refusal(address: SocketAddr) -> Option<ErrorKind> {
    TcpStream::connect_timeout(&address, PATIENCE).err().map(|error| error.kind())
}

/// Whether nobody answers a connection.
pub fn is_silent(address: SocketAddr) -> bool {
    let answer = TcpStream::connect_timeout(&address, IMPATIENCE);
    answer.is_err_and(|error| error.kind() == ErrorKind::TimedOut)
}

pub fn service(name: &str, cluster_ip: &str, ports: Vec<ServicePort>) -> Service {
    Service {
        namespace: "default".to_owned(),
        name: name.to_owned(),
        cluster_ips: vec![ip(cluster_ip)],
        ports,
        ..Service::default()
    }
}

pub fn port(protocol: Protocol, port: u16, endpoints: &[SocketAddr]) -> ServicePort {
    ServicePort { protocol, port, endpoints: endpoints.to_vec(), ..ServicePort::default() }
}

/// Runs a program of the developer's machine and returns what it prints.
pub fn run(words: &[&str]) -> String {
    let output = std::process::Command::new(words[0]).args(&words[1..]).output().expect("a program");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The kernel's view of the rules.
pub fn listed() -> String {
    run(&["nft", "list", "ruleset"])
}

/// The kernel's rules, each with its chain and number, which is another one once it was replaced.
pub fn handles() -> BTreeSet<String> {
    let mut chain = String::new();
    let mut rules = BTreeSet::new();
    for line in run(&["nft", "-a", "list", "ruleset"]).lines() {
        if line.trim_start().starts_with("chain ") {
            chain = line.trim().to_owned();
        } else if line.contains("# handle") {
            rules.insert(format!("{chain} {}", line.trim()));
        }
    }
    rules
}

/// Whether bridged packets pass the IP hooks too, on kernels that can.
pub fn set_bridge_filter(value: &str) {
    let setting = std::path::Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if setting.exists() {
        std::fs::write(setting, value).expect("a setting");
    }
}
