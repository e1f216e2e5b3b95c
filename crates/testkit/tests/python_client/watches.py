"""Watches from a revision, and what became of objects meanwhile."""

from kubernetes import client, config, watch
from kubernetes.client.rest import ApiException

config.load_kube_config()
core = client.CoreV1Api()
name = "python-watches"
core.create_namespace({"metadata": {"name": name}})
start = core.list_namespaced_config_map(name, label_selector="mine").metadata.resource_version

body = {"metadata": {"name": "one", "labels": {"mine": "yes"}}, "data": {"a": "1"}}
core.create_namespaced_config_map(name, body)
core.patch_namespaced_config_map("one", name, {"data": {"a": "2"}})
core.create_namespaced_config_map(name, {"metadata": {"name": "other"}})
core.delete_namespaced_config_map("one", name)
core.create_namespaced_config_map(name, {"metadata": {"name": "two", "labels": {"mine": "yes"}}})

seen = []
watcher = watch.Watch()
for event in watcher.stream(
    core.list_namespaced_config_map, name, label_selector="mine", resource_version=start, timeout_seconds=50
):
    seen.append((event["type"], event["object"].metadata.name))
    if seen[-1][1] == "two":
        watcher.stop()
assert seen == [("ADDED", "one"), ("MODIFIED", "one"), ("DELETED", "one"), ("ADDED", "two")], seen

# The server ends a watch when it was asked to.
ended = list(watch.Watch().stream(core.list_namespaced_config_map, name, resource_version=start, timeout_seconds=1))
assert ended, "there were events"

core.delete_namespace(name)
print("ok")
