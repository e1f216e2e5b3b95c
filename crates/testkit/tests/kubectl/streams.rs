//! Commands that stream: exec, attach, cp, port-forward.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use sampan_testkit::{Cluster, Namespace, Terminal};

const SHELL: &str = "
apiVersion: v1
kind: Pod
metadata: {name: shell}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - {name: main, image: 'example.com/test:1', command: [sleep, '1000']}
  - {name: web, image: 'example.com/test:1', command: [web, '8080', one]}
";

fn with_shell<'a>(cluster: &'a Cluster, name: &str) -> Namespace<'a> {
    let namespace = cluster.namespace(name);
    namespace.apply(SHELL);
    namespace.wait("pod/shell", "condition=Ready");
    namespace
}

pub fn exec(cluster: &mut Cluster) {
    let namespace = with_shell(cluster, "exec");
    namespace.kubectl(&["exec", "shell", "-c", "main", "--", "echo", "a  b"]).ok().is("a  b");
    namespace
        .kubectl(&["exec", "shell", "--", "hostname"])
        .ok()
        .is("shell")
        .says(&["Defaulted container \"main\" out of: main, web"]);
    let both = namespace
        .sh("shell", "echo out; echo err >&2; exit 7")
        .has(&["out\n"])
        .says(&["err\n", "command terminated with exit code 7"]);
    assert_eq!(both.code, Some(7), "{both}");
    namespace.kubectl_stdin(&["exec", "-i", "shell", "--", "tr", "a-z", "A-Z"], "quiet").ok().is("QUIET");
    // More than any buffer on the way, in both directions.
    let much = "0123456789abcdef".repeat(128 * 1024);
    let output = namespace.kubectl_stdin(&["exec", "-i", "shell", "--", "cat"], &much).ok();
    assert!(output.stdout == much, "{} bytes came back", output.stdout.len());
    namespace
        .kubectl(&["exec", "shell", "--", "nonsense"])
        .fails()
        .says(&["executable file not found in $PATH"]);
    namespace
        .kubectl(&["exec", "shell", "-c", "third", "--", "true"])
        .fails()
        .says(&["container third is not valid for pod shell"]);
    namespace.kubectl(&["exec", "missing", "--", "true"]).fails().says(&["pods \"missing\" not found"]);
}

pub fn exec_terminal(cluster: &mut Cluster) {
    let namespace = with_shell(cluster, "exec-it");
    let mut terminal = namespace.terminal(&["exec", "-it", "shell", "-c", "main", "--", "sh"]);
    terminal.until(r"# ");
    terminal.types("stty size; tty\n");
    let (rows, columns) = Terminal::SIZE;
    terminal.until(&format!("{rows} {columns}"));
    terminal.until("/dev/pts/");
    // Ctrl-C reaches the command and not kubectl.
    terminal.types("echo o$((1))n; cat\n");
    terminal.until("o1n");
    terminal.types("seen\n");
    terminal.until(r"seen\r\nseen");
    terminal.types("\u{3}");
    terminal.until(r"\^C[^$]*# ");
    terminal.types("echo still-$((1+1))\n");
    terminal.until("still-2");
    terminal.types("exit 5\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(5), "{screen}");
}

pub fn attach(cluster: &mut Cluster) {
    let namespace = cluster.namespace("attach");
    namespace.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: reader}
spec:
  restartPolicy: Never
  containers:
  - {name: main, image: 'example.com/test:1', stdin: true, stdinOnce: true, command: [sh, -c, 'echo ready; while read -r line; do echo got $line; done; echo bye']}
",
    );
    namespace.wait("pod/reader", "condition=Ready");
    let mut attached = namespace.spawn(&["attach", "-i", "reader"]);
    attached.write("one\n");
    attached.until("^got one$");
    attached.write("two\n");
    attached.until("^got two$");
    // The end of the input reaches the container, whose end reaches the client.
    let (code, printed) = attached.end();
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("bye"), "{printed}");
    namespace.wait_for("pod/reader", ".status.phase", "Succeeded");
    namespace.kubectl(&["logs", "reader"]).ok().is("ready\ngot one\ngot two\nbye");
    namespace
        .kubectl(&["attach", "reader"])
        .fails()
        .says(&["cannot attach a container in a completed pod; current phase is Succeeded"]);
}

/// Whose input ends leaves a container that goes on reading, for the next one to type to.
pub fn attach_again(cluster: &mut Cluster) {
    let namespace = cluster.namespace("attach-again");
    let words =
        ["--image=example.com/test:1", "--restart=Never", "--stdin", "--leave-stdin-open", "--attach"];
    let read = ["--", "sh", "-c", "cat && echo bye"];
    namespace.kubectl_stdin(&[&["run", "reader"][..], &words, &read].concat(), "one\n").ok();
    namespace.kubectl_stdin(&["attach", "-i", "reader"], "two\n").ok();
    namespace.wait("pod/reader", "condition=Ready");
    let mut log = namespace.spawn(&["logs", "-f", "reader"]);
    log.until("^one$");
    log.until("^two$");
    let printed = log.kill();
    assert!(!printed.contains("bye"), "{printed}");
}

pub fn cp(cluster: &mut Cluster) {
    let namespace = with_shell(cluster, "cp");
    let directory = cluster.scratch().join("cp");
    std::fs::create_dir_all(directory.join("sub")).expect("the scratch directory can be written");
    let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(directory.join("sub/data"), &content).expect("the scratch directory can be written");
    let local = directory.to_str().expect("text");
    namespace.kubectl(&["cp", local, "shell:/tmp/there", "-c", "main"]).ok();
    let back = cluster.scratch().join("back");
    namespace.kubectl(&["cp", "shell:/tmp/there/sub/data", back.to_str().expect("text"), "-c", "main"]).ok();
    assert!(std::fs::read(&back).expect("copied") == content, "the copy differs");
    // What is not there makes no file. (kubectl's exit code depends on which of two streams ends first.)
    namespace.kubectl(&["cp", "shell:/nonsense", "not-there", "-c", "main"]);
    assert!(!cluster.scratch().join("not-there").exists());
    namespace.kubectl(&["cp", "missing:/tmp/x", "not-there"]).fails().says(&["pods \"missing\" not found"]);
}

pub fn port_forward(cluster: &mut Cluster) {
    let namespace = with_shell(cluster, "forward");
    let mut forward = namespace.spawn(&["port-forward", "pod/shell", "18080:8080"]);
    forward.until(r"Forwarding from 127\.0\.0\.1:18080 -> 8080");
    let ask = |port: u16| {
        cluster
            .sandbox()
            .in_network(move || sampan_testkit::load::get(([127, 0, 0, 1], port).into(), "/"))
            .join()
            .expect("the thread does not panic")
    };
    for _ in 0..3 {
        assert_eq!(ask(18080).expect("an answer"), "one shell\n");
    }
    // Several connections at once share the one stream.
    let many: Vec<_> = (0..8)
        .map(|_| {
            cluster.sandbox().in_network(|| {
                let mut stream = TcpStream::connect("127.0.0.1:18080")?;
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")?;
                let mut text = String::new();
                stream.read_to_string(&mut text).map(|_| text)
            })
        })
        .collect();
    for one in many {
        let text = one.join().expect("the thread does not panic").expect("an answer");
        assert!(text.ends_with("one shell\n"), "{text}");
    }
    forward.until("Handling connection for 18080");
    forward.kill();
    namespace
        .kubectl(&[
            "expose",
            "pod",
            "shell",
            "--name=front",
            "--port=80",
            "--target-port=8080",
            "--selector=none=none",
        ])
        .ok();
    namespace.kubectl(&["port-forward", "service/front", "18081:80", "--pod-running-timeout=1s"]).fails();
    let mut wrong = namespace.spawn(&["port-forward", "pod/shell", "18082:9"]);
    wrong.until("Forwarding from");
    assert!(ask(18082).is_err(), "nobody listens on port 9");
    wrong.until("[Cc]onnection refused|error forwarding port");
    namespace
        .kubectl(&["port-forward", "pod/missing", "18083:1"])
        .fails()
        .says(&["pods \"missing\" not found"]);
}
