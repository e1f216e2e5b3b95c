"""Lists, creates, patches and deletes with the official client."""

from kubernetes import client, config
from kubernetes.client.rest import ApiException

config.load_kube_config()
core = client.CoreV1Api()
apps = client.AppsV1Api()

nodes = core.list_node().items
assert len(nodes) == 1, nodes
assert any(c.type == "Ready" and c.status == "True" for c in nodes[0].status.conditions)

name = "python-objects"
namespace = core.create_namespace({"metadata": {"name": name}})
assert namespace.metadata.uid and namespace.metadata.creation_timestamp.tzinfo is not None

for number in range(7):
    core.create_namespaced_config_map(
        name, client.V1ConfigMap(metadata=client.V1ObjectMeta(name=f"c{number}", labels={"n": str(number % 2)}), data={"a": "b"})
    )
even = core.list_namespaced_config_map(name, label_selector="n=0").items
assert [item.metadata.name for item in even] == ["c0", "c2", "c4", "c6"], even

page, pages = None, 0
names = []
while True:
    answer = core.list_namespaced_config_map(name, label_selector="n", limit=3, _continue=page)
    names += [item.metadata.name for item in answer.items]
    pages += 1
    page = answer.metadata._continue
    if not page:
        break
assert pages == 3 and names == [f"c{number}" for number in range(7)], (pages, names)

patched = core.patch_namespaced_config_map("c0", name, {"data": {"a": None, "c": "d"}})
assert patched.data == {"c": "d"}, patched.data
operations = [{"op": "add", "path": "/data/e", "value": "f"}]
patched = core.patch_namespaced_config_map("c0", name, operations)
assert patched.data == {"c": "d", "e": "f"}, patched.data

stale = core.read_namespaced_config_map("c1", name)
core.patch_namespaced_config_map("c1", name, {"data": {"x": "y"}})
try:
    core.replace_namespaced_config_map("c1", name, stale)
    raise AssertionError("a stale update went through")
except ApiException as error:
    assert error.status == 409 and "Conflict" in error.body, error

try:
    core.read_namespaced_config_map("nothing", name)
    raise AssertionError("found nothing")
except ApiException as error:
    assert error.status == 404 and '"reason":"NotFound"' in error.body, error

deployment = client.V1Deployment(
    metadata=client.V1ObjectMeta(name="web"),
    spec=client.V1DeploymentSpec(
        replicas=0,
        selector=client.V1LabelSelector(match_labels={"app": "web"}),
        template=client.V1PodTemplateSpec(
            metadata=client.V1ObjectMeta(labels={"app": "web"}),
            spec=client.V1PodSpec(containers=[client.V1Container(name="web", image="example.com/test:1")]),
        ),
    ),
)
made = apps.create_namespaced_deployment(name, deployment)
assert made.spec.strategy.rolling_update.max_surge == "25%", made.spec.strategy
scale = apps.patch_namespaced_deployment_scale("web", name, {"spec": {"replicas": 0}})
assert scale.spec.replicas == 0 and scale.status.replicas == 0, scale

deleted = core.delete_collection_namespaced_config_map(name, label_selector="n=1")
left = core.list_namespaced_config_map(name, label_selector="n").items
assert [item.metadata.name for item in left] == ["c0", "c2", "c4", "c6"], left
core.delete_namespace(name)
print("ok")
