"""Runs a pod, waits for it by a watch, reads its log, and runs commands in it."""

from kubernetes import client, config, watch
from kubernetes.stream import stream

config.load_kube_config()
core = client.CoreV1Api()
name = "python-pods"
core.create_namespace({"metadata": {"name": name}})
container = {"name": "main", "image": "example.com/test:1", "command": ["sh", "-c", "echo started; exec sleep 1000"]}
spec = {"containers": [container], "terminationGracePeriodSeconds": 1}
# A pod may be refused until its namespace has a service account, as everywhere in Kubernetes.
accounts = watch.Watch()
for event in accounts.stream(core.list_namespaced_service_account, name, timeout_seconds=50):
    if event["object"].metadata.name == "default":
        accounts.stop()
core.create_namespaced_pod(name, {"metadata": {"name": "pod"}, "spec": spec})

watcher = watch.Watch()
for event in watcher.stream(core.list_namespaced_pod, name, timeout_seconds=50):
    conditions = event["object"].status.conditions or []
    if any(c.type == "Ready" and c.status == "True" for c in conditions):
        watcher.stop()
pod = core.read_namespaced_pod("pod", name)
assert pod.status.phase == "Running" and pod.status.pod_ip, pod.status
# What it says may come a moment after it is ready.
log = core.read_namespaced_pod_log("pod", name, follow=True, _preload_content=False)
assert next(iter(log)) == b"started\n"
log.close()

run = core.connect_get_namespaced_pod_exec
printed = stream(run, "pod", name, command=["sh", "-c", "echo out; echo err >&2"], stderr=True, stdout=True, stdin=False, tty=False)
assert sorted(printed.split()) == ["err", "out"], printed

session = stream(run, "pod", name, command=["sh"], stderr=True, stdin=True, stdout=True, tty=False, _preload_content=False)
session.write_stdin("echo $((6 * 7))\n")
assert session.readline_stdout(timeout=30) == "42"
session.write_stdin("exit 3\n")
session.run_forever(timeout=30)
assert session.returncode == 3, session.returncode
session.close()

core.delete_namespaced_pod("pod", name)
for event in watch.Watch().stream(core.list_namespaced_pod, name, timeout_seconds=50):
    if event["type"] == "DELETED":
        break
core.delete_namespace(name)
print("ok")
