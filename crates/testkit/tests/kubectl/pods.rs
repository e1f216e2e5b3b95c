//! Commands about pods: running them, looking at them, reading what they say.

use sampan_testkit::Cluster;
use sampan_testkit::image::TEST_IMAGE;

/// `kubectl run` of a shell script in the test image.
fn run_script<'a>(name: &'a str, script: &'a str) -> Vec<&'a str> {
    let image = concat!("--image=", "example.com/test:1");
    assert!(image.ends_with(TEST_IMAGE));
    vec!["run", name, image, "--restart=Never", "--", "sh", "-c", script]
}

/// A pod of two containers that log numbered lines, and go on.
const TALKERS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: talkers, labels: {app: talk}}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: first
    image: example.com/test:1
    command: [sh, -c, 'for i in $(seq 1 20); do echo first $i; done; exec sleep 1000']
  - name: second
    image: example.com/test:1
    command: [sh, -c, 'echo second out; echo second err >&2; exec sleep 1000']
";

pub fn run(cluster: &mut Cluster) {
    let namespace = cluster.namespace("run");
    namespace.kubectl(&run_script("once", "echo hello; exit 0")).ok().is("pod/once created");
    namespace.wait_for("pod/once", ".status.phase", "Succeeded");
    namespace.kubectl(&["logs", "once"]).ok().is("hello");
    namespace.kubectl(&["get", "pod", "once"]).ok().matches(r"^once +0/1 +Completed +0 +\d+s$");
    namespace.kubectl(&run_script("fails", "exit 3")).ok();
    namespace.wait_for("pod/fails", ".status.phase", "Failed");
    namespace.kubectl(&["get", "pod", "fails"]).ok().matches(r"^fails +0/1 +Error +0 ");
    assert_eq!(namespace.get("pod/fails", ".status.containerStatuses[0].state.terminated.exitCode"), "3");
    namespace
        .kubectl(&[
            "run",
            "web",
            "--image=example.com/test:1",
            "--port=80",
            "--labels=a=b",
            "--env=X=y",
            "--",
            "web",
            "80",
            "one",
        ])
        .ok();
    namespace.wait("pod/web", "condition=Ready");
    assert_eq!(namespace.get("pod/web", ".spec.containers[0].env[0].value"), "y");
    namespace.kubectl(&["delete", "pod", "web"]).ok().has(&["pod \"web\" deleted"]);
    namespace.kubectl(&["get", "pod", "web"]).fails().says(&["pods \"web\" not found"]);
    namespace
        .kubectl(&[
            "run",
            "stuck",
            "--image=example.com/test:1",
            "--",
            "sh",
            "-c",
            "trap '' TERM; while true; do sleep 1; done",
        ])
        .ok();
    namespace.wait("pod/stuck", "condition=Ready");
    namespace.kubectl(&["delete", "pod", "stuck", "--now"]).ok();
    namespace.kubectl(&["run", "forced", "--image=example.com/test:1", "--", "sleep", "1000"]).ok();
    namespace.wait("pod/forced", "condition=Ready");
    namespace
        .kubectl(&["delete", "pod", "forced", "--force"])
        .ok()
        .says(&["Immediate deletion does not wait"]);
}

pub fn get_wide(cluster: &mut Cluster) {
    let namespace = cluster.namespace("wide");
    namespace.apply(&TALKERS.replace("PeriodSeconds: 0", "PeriodSeconds: 1"));
    namespace.wait("pod/talkers", "condition=Ready");
    namespace
        .kubectl(&["get", "pods", "-o", "wide"])
        .ok()
        .matches(r"^NAME +READY +STATUS +RESTARTS +AGE +IP +NODE +NOMINATED NODE +READINESS GATES$")
        .matches(r"^talkers +2/2 +Running +0 +\d+s +10\.42\.\d+\.\d+ +\S+ +<none> +<none>$");
    cluster.kubectl(&["get", "pods", "-A"]).ok().matches(r"^wide +talkers +2/2 ");
    let running = "--field-selector=status.phase=Running,spec.nodeName!=";
    namespace.kubectl(&["get", "pods", running, "-o", "name"]).ok().is("pod/talkers");
    let mut watch = namespace.spawn(&["get", "pods", "--watch"]);
    watch.until(r"^talkers +2/2 +Running");
    namespace.kubectl(&["delete", "pod", "talkers"]).ok();
    watch.until(r"^talkers +[012]/2 +Terminating");
    watch.kill();
}

pub fn describe(cluster: &mut Cluster) {
    let namespace = cluster.namespace("describe-pod");
    namespace.apply(TALKERS);
    namespace.wait("pod/talkers", "condition=Ready");
    namespace.event("talkers", "Started", ".*second");
    namespace
        .kubectl(&["describe", "pod", "talkers"])
        .ok()
        .matches(r"^Status: +Running$")
        .matches(r"^Node: +\S+/\S+$")
        .matches(r"^    State: +Running$")
        .matches(r"^    Container ID: +sampan://")
        .matches(r"^QoS Class: +BestEffort$")
        .matches(r"^  Ready +True ")
        .matches(r"^  Normal +Scheduled .*Successfully assigned describe-pod/talkers to ")
        .matches(r"^  Normal +Pulled .*already present on machine")
        .matches(r"^  Normal +Created .*first")
        .matches(r"^  Normal +Started .*second");
    namespace.kubectl(&["events", "--for=pod/talkers"]).ok().has(&["Scheduled", "Started"]);
    namespace
        .kubectl(&["get", "events", "--field-selector=reason=Scheduled,involvedObject.name=talkers"])
        .ok()
        .has(&["Successfully assigned"]);
}

pub fn wait(cluster: &mut Cluster) {
    let namespace = cluster.namespace("wait");
    namespace.apply(TALKERS);
    namespace
        .kubectl(&["wait", "pod/talkers", "--for=condition=Ready", "--timeout=50s"])
        .ok()
        .is("pod/talkers condition met");
    namespace
        .kubectl(&["wait", "pod", "-l", "app=talk", "--for=jsonpath={.status.phase}=Running"])
        .ok()
        .is("pod/talkers condition met");
    namespace
        .kubectl(&["wait", "pod/talkers", "--for=condition=Nonsense", "--timeout=1s"])
        .fails()
        .says(&["timed out waiting for the condition on pods/talkers"]);
    let waiting = namespace.spawn(&["wait", "pod/talkers", "--for=delete", "--timeout=50s"]);
    namespace.kubectl(&["delete", "pod", "talkers"]).ok();
    let (code, printed) = waiting.end();
    assert_eq!(code, Some(0), "{printed}");
}

pub fn logs(cluster: &mut Cluster) {
    let namespace = cluster.namespace("logs");
    // It writes a line for each one that it reads, so that the test decides when.
    namespace.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: echo}
spec:
  terminationGracePeriodSeconds: 0
  containers:
  - name: echo
    image: example.com/test:1
    command: [sh, -c, 'mkfifo /tmp/in; for i in $(seq 1 20); do echo line $i; done; exec cat /tmp/in /tmp/in']
",
    );
    namespace.wait("pod/echo", "condition=Ready");
    let mut follow = namespace.spawn(&["logs", "-f", "echo"]);
    follow.until("^line 20$");
    namespace.kubectl(&["logs", "echo", "--tail=2"]).ok().is("line 19\nline 20");
    namespace.kubectl(&["logs", "echo", "--tail=0"]).ok().is("");
    let all = namespace.kubectl(&["logs", "echo"]).ok();
    assert_eq!(all.stdout.lines().count(), 20, "{all}");
    namespace.kubectl(&["logs", "echo", "--since=1h", "--tail=1"]).ok().is("line 20");
    namespace
        .kubectl(&["logs", "echo", "--timestamps", "--tail=1"])
        .ok()
        .matches(r"^20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+(Z|[+-]\d\d:\d\d) line 20$");
    namespace.kubectl(&["logs", "echo", "--limit-bytes=4"]).ok().is("line");
    let hour = |sign: &str| {
        let date = cluster.run(&["date", "--utc", "--date", &format!("{sign}1 hour"), "+%FT%TZ"]).ok().text();
        namespace.kubectl(&["logs", "echo", "--since-time", &date]).ok()
    };
    hour("-").has(&["line 1\n", "line 20\n"]);
    hour("+").is("");
    namespace.sh("echo", "echo more > /tmp/in").ok();
    follow.until("^more$");
    // Its end is the end of following.
    namespace.sh("echo", "echo last > /tmp/in").ok();
    let (code, printed) = follow.end();
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.ends_with("more\nlast\n"), "{printed}");
    let mut late = namespace.spawn(&["logs", "-f", "--tail=1", "--since=1h", "echo"]);
    late.until("^(last|line 20)$");
    namespace.kubectl(&["logs", "missing"]).fails().says(&["pods \"missing\" not found"]);
}

pub fn logs_previous(cluster: &mut Cluster) {
    let namespace = cluster.namespace("previous");
    namespace.apply(
        "
apiVersion: v1
kind: Pod
metadata: {name: twice}
spec:
  terminationGracePeriodSeconds: 0
  volumes: [{name: state, emptyDir: {}}]
  containers:
  - name: main
    image: example.com/test:1
    command: [sh, -c, 'echo run >> /state/runs; echo number $(wc -l < /state/runs); [ $(wc -l < /state/runs) = 2 ] && exec sleep 1000; exit 1']
    volumeMounts: [{name: state, mountPath: /state}]
",
    );
    namespace.wait_for("pod/twice", ".status.containerStatuses[0].restartCount", "1");
    namespace.wait("pod/twice", "condition=Ready");
    namespace.kubectl(&["logs", "twice", "--previous"]).ok().is("number 1");
    namespace.kubectl(&["logs", "twice"]).ok().is("number 2");
    namespace.kubectl(&["get", "pod", "twice"]).ok().matches(r"^twice +1/1 +Running +1 \(\d+s ago\) ");
    namespace.kubectl(&run_script("fresh", "sleep 1000")).ok();
    namespace.wait("pod/fresh", "condition=Ready");
    namespace
        .kubectl(&["logs", "fresh", "--previous"])
        .fails()
        .says(&["previous terminated container \"fresh\" in pod \"fresh\" not found"]);
}

pub fn logs_selected(cluster: &mut Cluster) {
    let namespace = cluster.namespace("selected");
    namespace.apply(TALKERS);
    namespace.wait("pod/talkers", "condition=Ready");
    // What they say may come a moment after they are ready.
    namespace.spawn(&["logs", "talkers", "-c", "first", "--follow"]).until("^first 20$");
    namespace.spawn(&["logs", "talkers", "-c", "second", "--follow"]).until("^second err$");
    namespace.kubectl(&["logs", "talkers", "-c", "second"]).ok().has(&["second out", "second err"]);
    namespace
        .kubectl(&["logs", "talkers"])
        .ok()
        .has(&["first 20"])
        .lacks(&["second"])
        .says(&["Defaulted container \"first\" out of: first, second"]);
    namespace
        .kubectl(&["logs", "talkers", "-c", "third"])
        .fails()
        .says(&["container third is not valid for pod talkers"]);
    namespace
        .kubectl(&["logs", "talkers", "--all-containers", "--prefix"])
        .ok()
        .has(&["[pod/talkers/first] first 1\n", "[pod/talkers/second] second out\n"]);
    namespace.kubectl(&["logs", "-l", "app=talk", "-c", "first", "--tail=1"]).ok().is("first 20");
}

pub fn run_interactive(cluster: &mut Cluster) {
    let namespace = cluster.namespace("interactive");
    let mut terminal = namespace.terminal(&[
        "run",
        "shell",
        "--rm",
        "-it",
        "--image=example.com/test:1",
        "--restart=Never",
        "--",
        "sh",
    ]);
    terminal.until(r"# ");
    terminal.types("echo a$((40+2))b\n");
    terminal.until("a42b");
    terminal.types("exit 0\n");
    let (code, screen) = terminal.end();
    assert_eq!(code, Some(0), "{screen}");
    assert!(screen.contains("pod \"shell\" deleted"), "{screen}");
    namespace.kubectl(&["get", "pod", "shell"]).fails().says(&["not found"]);
    // Without a terminal: standard input goes in, the output and the exit code come back.
    let output = namespace.kubectl_stdin(
        &[
            "run",
            "pipe",
            "--rm",
            "-i",
            "--quiet",
            "--image=example.com/test:1",
            "--restart=Never",
            "--",
            "sh",
            "-c",
            "wc -c; exit 4",
        ],
        "12345",
    );
    assert_eq!(output.code, Some(4), "{output}");
    output.has(&["5\n"]);
}
