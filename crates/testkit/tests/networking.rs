//! Services, node ports, names and pods, from pods and from the node.

use std::net::SocketAddr;
use std::process::ExitCode;

use sampan_testkit::load::get;
use sampan_testkit::{Cluster, Namespace, Suite};

fn main() -> ExitCode {
    Suite::new("networking")
        .test_image()
        .check("pods reach pods, and see their addresses", pod_to_pod)
        .check("a service's cluster address, from the node and from pods", cluster_ip)
        .check("a pod reaches itself through its service", hairpin)
        .check("a service without endpoints refuses", no_endpoints)
        .check("a node port answers on loopback", node_port)
        .check("host ports lead to their pod", host_ports)
        .check("client IP affinity", affinity)
        .check("names of services", dns_services)
        .check("names of pods, headless and external services", dns_headless)
        .check("the resolver's settings in pods", dns_settings)
        .check("kubernetes.default answers a pod with its token", api_from_a_pod)
        .check("the API proves who it is, on its service's address", certificate)
        .check("endpoints follow readiness", readiness)
        .check("services for datagrams", datagrams)
        .check("host network", host_network)
        .check("addresses that nobody serves fail at once", unserved)
        .check("names fail at once without an upstream", no_upstream)
        .check("there is no way out of the machine", no_way_out)
        .run()
}

const CLIENT: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client}
spec:
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: 'example.com/test:1', command: [sleep, '1000']}]
";

fn with_client<'a>(cluster: &'a Cluster, name: &str) -> Namespace<'a> {
    let namespace = cluster.namespace(name);
    namespace.apply(CLIENT);
    namespace.wait("pod/client", "condition=Ready");
    namespace
}

fn from_node(cluster: &Cluster, address: SocketAddr) -> std::io::Result<String> {
    cluster.sandbox().in_network(move || get(address, "/")).join().expect("the thread does not panic")
}

fn fetch(url: &str) -> String {
    format!("timeout 10 wget -q -O - {url}")
}

fn pod_to_pod(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "pods");
    namespace.deploy_web(1, "one");
    let web = namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).ok().text();
    let address = namespace.get(&web, ".status.podIP");
    namespace.sh("client", &fetch(&format!("{address}:8080"))).ok().has(&["one web-"]);
    namespace
        .sh("client", "ip -4 -o address show dev eth0")
        .ok()
        .has(&[&namespace.get("pod/client", ".status.podIP")]);
    assert_eq!(namespace.get(&web, ".status.podIPs[0].ip"), address);
    // The node reaches pods, and has an address that pods reach.
    assert!(from_node(cluster, format!("{address}:8080").parse().expect("an address")).is_ok());
    namespace.sh("client", &format!("ping -c 1 -W 5 {}", namespace.get("pod/client", ".status.hostIP"))).ok();
}

fn cluster_ip(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "cluster-ip");
    namespace.deploy_web(2, "one");
    namespace.endpoints("web", 2);
    let address = namespace.service_address("web");
    let mut hosts: Vec<String> = (0..40).map(|_| from_node(cluster, address).expect("an answer")).collect();
    hosts.sort();
    hosts.dedup();
    assert_eq!(hosts.len(), 2, "both endpoints answer: {hosts:?}");
    namespace.sh("client", &fetch(&address.to_string())).ok().has(&["one web-"]);
    // Another port of the same address has no service.
    namespace.sh("client", &fetch(&format!("{}:81", address.ip()))).fails();
    // Ports by name, and a second port.
    namespace.kubectl(&["patch", "service", "web", "--type=json", "-p", r#"[{"op":"add","path":"/spec/ports/0/name","value":"a"},{"op":"add","path":"/spec/ports/-","value":{"name":"b","port":8000,"targetPort":8080}}]"#]).ok();
    let mut watch =
        namespace.spawn(&["get", "endpointslices", "--watch", "-o", "jsonpath={.ports[*].name}{\"\\n\"}"]);
    watch.until("^(a b|b a)$");
    namespace
        .sh(
            "client",
            &format!(
                "for i in 1 2 3 4 5; do {} && exit 0; done; exit 1",
                fetch(&format!("{}:8000", address.ip()))
            ),
        )
        .ok();
    // A service that goes takes its rules with it.
    namespace.kubectl(&["delete", "service", "web"]).ok();
    namespace.spawn(&["get", "endpointslices", "--watch", "--output-watch-events"]).kill();
}

fn hairpin(cluster: &mut Cluster) {
    let namespace = cluster.namespace("hairpin");
    namespace.deploy_web(1, "one");
    namespace.endpoints("web", 1);
    let address = namespace.service_address("web");
    let web = namespace.kubectl(&["get", "pods", "-l", "app=web", "-o", "name"]).ok().text();
    namespace.sh(&web, &fetch(&address.to_string())).ok().has(&["one web-"]);
}

fn no_endpoints(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "refused");
    namespace.kubectl(&["create", "service", "clusterip", "nobody", "--tcp=80:8080"]).ok();
    let address = namespace.service_address("nobody");
    let error = from_node(cluster, address).expect_err("nobody answers");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{error}");
    namespace.sh("client", &fetch(&address.to_string())).fails().says(&["Connection refused"]);
}

fn node_port(cluster: &mut Cluster) {
    let namespace = cluster.namespace("node-port");
    namespace.deploy_web(1, "one");
    namespace
        .kubectl(&[
            "expose",
            "deployment",
            "web",
            "--name=door",
            "--type=NodePort",
            "--port=80",
            "--target-port=8080",
        ])
        .ok();
    namespace.endpoints("door", 1);
    let port: u16 = namespace.get("service/door", ".spec.ports[0].nodePort").parse().expect("a port");
    assert!((30000..=32767).contains(&port), "{port}");
    let answer = from_node(cluster, ([127, 0, 0, 1], port).into()).expect("an answer");
    assert!(answer.starts_with("one web-"), "{answer}");
    namespace.kubectl(&["get", "service", "door"]).ok().has(&[&format!("80:{port}/TCP")]);
    namespace.kubectl_stdin(&["apply", "-f", "-"], &format!("apiVersion: v1\nkind: Service\nmetadata: {{name: second}}\nspec: {{type: NodePort, ports: [{{port: 80, nodePort: {port}}}]}}\n")).fails().says(&["provided port is already allocated"]);
}

fn host_ports(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "host-ports");
    let pod = "
apiVersion: v1
kind: Pod
metadata: {name: door}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: main
    image: example.com/test:1
    command: [web, '8080', one]
    readinessProbe: {tcpSocket: {port: 8080}, periodSeconds: 1}
    ports:
    - {containerPort: 8080, hostPort: 18080}
    - {containerPort: 8080, hostPort: 18081, hostIP: 127.0.0.1}
";
    namespace.apply(pod);
    namespace.wait("pod/door", "condition=Ready");
    let node = namespace.get("pod/door", ".status.hostIP");
    let address = |ip: &str, port: u16| format!("{ip}:{port}").parse::<SocketAddr>().expect("an address");
    let answers = |ip: &str, port: u16| {
        let answer = from_node(cluster, address(ip, port)).expect("an answer");
        assert!(answer.starts_with("one door"), "{answer}");
    };
    answers("127.0.0.1", 18080);
    answers(&node, 18080);
    answers("127.0.0.1", 18081);
    from_node(cluster, address(&node, 18081)).expect_err("it was asked for on loopback alone");
    // From pods, the one behind the port too.
    let url = format!("http://{node}:18080/");
    namespace.sh("client", &fetch(&url)).ok().has(&["one door"]);
    namespace.sh("door", &fetch(&url)).ok().has(&["one door"]);
    // Nobody listens: it is the pod's, and goes on without the server.
    let name = namespace.name.clone();
    namespace.keep();
    cluster.restart().expect("the server starts again");
    let answer = from_node(cluster, address("127.0.0.1", 18080)).expect("an answer");
    assert!(answer.starts_with("one door"), "{answer}");
    // Another pod that asks for it finds no node.
    let kubectl = |arguments: &[&str]| cluster.kubectl(&[&["--namespace", &name], arguments].concat());
    let second = pod.replace("name: door", "name: second");
    cluster.kubectl_stdin(&["--namespace", &name, "apply", "-f", "-"], &second).ok();
    let wait = |pod: &str, condition: &str| {
        kubectl(&["wait", pod, &format!("--for={condition}"), "--timeout=55s"]).ok();
    };
    wait("pod/second", "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].reason}=Unschedulable");
    let message = "jsonpath={.status.conditions[?(@.type==\"PodScheduled\")].message}";
    kubectl(&["get", "pod", "second", "-o", message])
        .ok()
        .has(&["didn't have free ports for the requested pod ports"]);
    kubectl(&["delete", "pod", "door"]).ok();
    wait("pod/second", "condition=Ready");
    let answer = from_node(cluster, address("127.0.0.1", 18080)).expect("an answer");
    assert!(answer.starts_with("one second"), "{answer}");
    kubectl(&["delete", "pod", "second"]).ok();
    from_node(cluster, address("127.0.0.1", 18080)).expect_err("it was freed");
    kubectl(&["delete", "namespace", &name, "--wait=false"]).ok();
}

fn affinity(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "affinity");
    namespace.deploy_web(3, "one");
    namespace.kubectl(&["patch", "service", "web", "-p", r#"{"spec":{"sessionAffinity":"ClientIP"}}"#]).ok();
    namespace.endpoints("web", 3);
    let url = namespace.service_address("web").to_string();
    let script = format!("for i in $(seq 1 20); do {}; done | sort -u | wc -l", fetch(&url));
    namespace.sh("client", &script).ok().is("1");
}

fn dns_services(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "names");
    namespace.deploy_web(1, "one");
    namespace.endpoints("web", 1);
    let address = namespace.service_address("web").ip().to_string();
    let query = "nslookup -type=a web.names.svc.cluster.local";
    namespace.sh("client", query).ok().has(&[&format!("Address: {address}")]);
    for name in ["web", "web.names", "web.names.svc", "web.names.svc.cluster.local"] {
        namespace.sh("client", &fetch(name)).ok().has(&["one web-"]);
    }
    namespace
        .kubectl(&[
            "patch",
            "service",
            "web",
            "--type=json",
            "-p",
            r#"[{"op":"add","path":"/spec/ports/0/name","value":"http"}]"#,
        ])
        .ok();
    let mut watch =
        namespace.spawn(&["get", "endpointslices", "--watch", "-o", "jsonpath={.ports[*].name}{\"\\n\"}"]);
    watch.until("^http$");
    let query = "nslookup -type=srv _http._tcp.web.names.svc.cluster.local";
    namespace.sh("client", query).ok().matches(r"service = 0 100 80 web\.names\.svc\.cluster\.local");
    let reversed: Vec<&str> = address.split('.').rev().collect();
    let query = format!("nslookup -type=ptr {}.in-addr.arpa", reversed.join("."));
    namespace.sh("client", &query).ok().has(&["web.names.svc.cluster.local"]);
    namespace.sh("client", "nslookup nothing.names.svc.cluster.local").fails().has(&["NXDOMAIN"]);
    namespace.sh("client", "nslookup kubernetes.default.svc.cluster.local").ok().has(&["Address: 10.43.0.1"]);
}

fn dns_headless(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "headless");
    namespace.deploy_web(2, "one");
    namespace.apply(
        "
apiVersion: v1
kind: Service
metadata: {name: each}
spec: {clusterIP: None, selector: {app: web}, ports: [{name: http, port: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: away}
spec: {type: ExternalName, externalName: web.headless.svc.cluster.local}
---
apiVersion: v1
kind: Service
metadata: {name: named}
spec: {clusterIP: None, selector: {app: named}}
---
apiVersion: v1
kind: Pod
metadata: {name: with-name, labels: {app: named}}
spec:
  hostname: first
  subdomain: named
  terminationGracePeriodSeconds: 0
  containers: [{name: main, image: 'example.com/test:1', command: [sleep, '1000']}]
",
    );
    namespace.wait("pod/with-name", "condition=Ready");
    namespace.endpoints("each", 2);
    namespace.endpoints("named", 1);
    let addresses = namespace
        .kubectl(&["get", "pods", "-l", "app=web", "-o", "jsonpath={.items[*].status.podIP}"])
        .ok()
        .text();
    let addresses: Vec<String> = addresses.split(' ').map(|address| format!("Address: {address}")).collect();
    let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
    namespace.sh("client", "nslookup -type=a each.headless.svc.cluster.local").ok().has(&addresses);
    let srv = namespace.sh("client", "nslookup -type=srv _http._tcp.each.headless.svc.cluster.local").ok();
    assert_eq!(srv.stdout.matches("service = 0").count(), 2, "{srv}");
    let external = namespace.sh("client", "nslookup -type=a away.headless.svc.cluster.local").ok();
    external.has(&["canonical name = web.headless.svc.cluster.local"]);
    namespace.sh("client", &fetch("away")).ok().has(&["one web-"]);
    let address = format!("Address: {}", namespace.get("pod/with-name", ".status.podIP"));
    namespace.sh("client", "nslookup -type=a first.named.headless.svc.cluster.local").ok().has(&[&address]);
    namespace.sh("with-name", "hostname -f").ok().is("first.named.headless.svc.cluster.local");
    let dashed = namespace.get("pod/with-name", ".status.podIP").replace('.', "-");
    namespace
        .sh("client", &format!("nslookup -type=a {dashed}.headless.pod.cluster.local"))
        .ok()
        .has(&[&address]);
}

fn dns_settings(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "resolver");
    namespace
        .sh("client", "cat /etc/resolv.conf")
        .ok()
        .matches(r"^search resolver\.svc\.cluster\.local svc\.cluster\.local cluster\.local")
        .matches(r"^nameserver \d+\.\d+\.\d+\.\d+$")
        .matches("^options ndots:5$");
    namespace
        .sh("client", "cat /etc/hosts")
        .ok()
        .matches(r"^127\.0\.0\.1\s+localhost$")
        .matches(r"^10\.42\.\d+\.\d+\s+client$");
    namespace.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: own}
spec:
  terminationGracePeriodSeconds: 0
  dnsPolicy: None
  dnsConfig: {nameservers: [192.0.2.53], searches: [example.com], options: [{name: ndots, value: '2'}]}
  hostAliases: [{ip: 192.0.2.7, hostnames: [seven.example.com]}]
  containers: [{name: main, image: 'example.com/test:1', command: [sleep, '1000']}]
",
    );
    namespace.wait("pod/own", "condition=Ready");
    namespace
        .sh("own", "cat /etc/resolv.conf")
        .ok()
        .is("search example.com\nnameserver 192.0.2.53\noptions ndots:2");
    namespace.sh("own", "cat /etc/hosts").ok().matches(r"^192\.0\.2\.7\s+seven\.example\.com$");
}

fn api_from_a_pod(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "in-pod");
    let directory = "/var/run/secrets/kubernetes.io/serviceaccount";
    namespace.sh("client", &format!("cat {directory}/namespace")).ok().is("in-pod");
    namespace.sh("client", &format!("cat {directory}/ca.crt")).ok().has(&["BEGIN CERTIFICATE"]);
    namespace
        .sh("client", "env")
        .ok()
        .has(&["KUBERNETES_SERVICE_HOST=10.43.0.1\n", "KUBERNETES_SERVICE_PORT=443\n"]);
    let ask = |path: &str| {
        format!(
            "curl -sS --max-time 10 --cacert {directory}/ca.crt -H \"Authorization: Bearer $(cat {directory}/token)\" \
             https://kubernetes.default.svc{path}"
        )
    };
    namespace.sh("client", &ask("/version")).ok().has(&["gitVersion"]);
    namespace
        .sh("client", &ask("/api/v1/namespaces/in-pod/pods"))
        .ok()
        .has(&["pods is forbidden: User \\\"system:serviceaccount:in-pod:default\\\" cannot list", "403"]);
    namespace
        .kubectl(&["create", "rolebinding", "see", "--clusterrole=view", "--serviceaccount=in-pod:default"])
        .ok();
    namespace.sh("client", &ask("/api/v1/namespaces/in-pod/pods/client")).ok().has(&["\"name\": \"client\""]);
}

fn host_network(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "host");
    namespace.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: on-host}
spec:
  hostNetwork: true
  terminationGracePeriodSeconds: 0
  containers:
  - name: web
    image: example.com/test:1
    command: [web, '8099', host]
    readinessProbe: {tcpSocket: {port: 8099}, periodSeconds: 1}
    ports: [{containerPort: 8099}]
",
    );
    namespace.wait("pod/on-host", "condition=Ready");
    let answer = from_node(cluster, ([127, 0, 0, 1], 8099).into()).expect("an answer");
    assert!(answer.starts_with("host "), "{answer}");
    assert_eq!(namespace.get("pod/on-host", ".status.podIP"), namespace.get("pod/on-host", ".status.hostIP"));
}

fn no_way_out(cluster: &mut Cluster) {
    cluster.run(&["ip", "route", "show"]).ok().lacks(&["default"]).has(&["unreachable 10.42.0.0/16"]);
}

fn certificate(cluster: &mut Cluster) {
    let authority = cluster.scratch().join("ca.crt");
    let map = ["get", "configmap", "kube-root-ca.crt", "-o", "jsonpath={.data['ca\\.crt']}"];
    std::fs::write(&authority, cluster.kubectl(&map).ok().stdout).expect("the scratch directory is writable");
    let connect = |verify: &[&str]| {
        let base = ["openssl", "s_client", "-connect", "10.43.0.1:443", "-verify_return_error", "-brief"];
        cluster.run(&[&base[..], verify].concat())
    };
    let file = authority.to_str().expect("a path of text");
    for name in
        ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"]
    {
        connect(&["-CAfile", file, "-verify_hostname", name]).ok().says(&["Verification: OK"]);
    }
    connect(&["-CAfile", file, "-verify_ip", "10.43.0.1"]).ok().says(&["Verification: OK"]);
    connect(&["-CAfile", file, "-verify_hostname", "example.com"]).fails();
    connect(&["-no-CAfile", "-no-CApath", "-no-CAstore"]).fails();
}

fn readiness(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "readiness");
    namespace.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: moody, labels: {app: moody}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: web
    image: example.com/test:1
    command: [web, '8080', moody]
    readinessProbe: {exec: {command: [test, -f, /tmp/ready]}, periodSeconds: 1, failureThreshold: 1}
---
apiVersion: v1
kind: Service
metadata: {name: moody}
spec: {selector: {app: moody}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: all}
spec: {selector: {app: moody}, clusterIP: None, publishNotReadyAddresses: true, ports: [{port: 80}]}
",
    );
    namespace.wait_for("pod/moody", ".status.containerStatuses[0].started", "true");
    let address = namespace.service_address("moody").to_string();
    namespace.sh("client", &fetch(&address)).fails().says(&["Connection refused"]);
    namespace.sh("moody", "touch /tmp/ready").ok();
    namespace.endpoints("moody", 1);
    namespace.sh("client", &reaches(&address)).ok().has(&["moody moody"]);
    namespace.sh("moody", "rm /tmp/ready").ok();
    namespace.wait("pod/moody", "condition=Ready=false");
    namespace.sh("client", &format!("while {}; do sleep 0.05; done", fetch(&address))).ok();
    namespace.sh("client", &fetch(&address)).fails().says(&["Connection refused"]);
    // Who asked for all addresses has them all the time.
    let ip = namespace.get("pod/moody", ".status.podIP");
    let query = "nslookup -type=a all.readiness.svc.cluster.local";
    namespace.sh("client", query).ok().has(&[&format!("Address: {ip}")]);
}

/// Asks until there is an answer: rules follow endpoints a moment later.
fn reaches(url: &str) -> String {
    format!("until {}; do sleep 0.05; done", fetch(url))
}

fn datagrams(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "datagrams");
    namespace.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: echo, labels: {app: echo}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: main, image: 'example.com/test:1', command: [web, '5300', echo]}
---
apiVersion: v1
kind: Service
metadata: {name: echo}
spec:
  selector: {app: echo}
  ports:
  - {name: datagrams, port: 53, protocol: UDP, targetPort: 5300}
  - {name: streams, port: 53, protocol: TCP, targetPort: 5301}
---
apiVersion: v1
kind: Service
metadata: {name: nobody}
spec: {selector: {app: nobody}, ports: [{port: 53, protocol: UDP}]}
",
    );
    namespace.wait("pod/echo", "condition=Ready");
    namespace.endpoints("echo", 1);
    let ip = namespace.service_address("echo").ip();
    namespace.sh("client", &format!("until web ask {ip}:53; do sleep 0.05; done")).ok().is("echo echo");
    // The two protocols of one port number are apart.
    namespace.sh("client", &fetch(&format!("{ip}:53"))).fails().says(&["Connection refused"]);
    let nobody = namespace.service_address("nobody");
    namespace.sh("client", &format!("web ask {nobody}")).fails().says(&["Connection refused"]);
    let srv =
        namespace.sh("client", "nslookup -type=srv _datagrams._udp.echo.datagrams.svc.cluster.local").ok();
    srv.matches(r"service = 0 \d+ 53 echo\.datagrams\.svc\.cluster\.local");
}

fn unserved(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "unserved");
    let node = namespace.get("pod/client", ".status.podIP");
    let (network, _) = node.rsplit_once('.').expect("an IPv4 address");
    for address in ["10.43.200.200", "10.42.200.200", &format!("{network}.250"), "192.0.2.1"] {
        // Code 7 says that the connection was refused or has no way, 28 that nobody ever answered.
        let asked = namespace.sh("client", &format!("curl -sS --max-time 10 http://{address}/"));
        assert_eq!(asked.code, Some(7), "{asked}");
    }
}

fn no_upstream(cluster: &mut Cluster) {
    let namespace = with_client(cluster, "no-upstream");
    // Busybox gives up after ten seconds without an answer and says so; an answer names its kind.
    namespace.sh("client", "nslookup nothing.unserved.svc.cluster.local.").fails().has(&["NXDOMAIN"]);
    namespace
        .sh("client", "nslookup example.com.")
        .fails()
        .lacks(&["timed out"])
        .matches("NXDOMAIN|REFUSED|SERVFAIL");
    // As programs ask, through the search path.
    namespace.sh("client", "curl -sS --max-time 8 http://nothing/").fails().says(&["Could not resolve host"]);
}
