use serde_json::json;

use super::*;

const GROUP: &str = "resource.k8s.io";

fn claim(devices: Value) -> Value {
    json!({"spec": {"devices": devices}})
}

fn exactly(more: Value) -> Value {
    let mut request = json!({"deviceClassName": "c", "allocationMode": "ExactCount", "count": 1});
    for (key, value) in more.as_object().into_iter().flatten() {
        request[key] = value.clone();
    }
    json!({"name": "r", "exactly": request})
}

#[test]
fn claims_and_templates() {
    let good = json!({
        "requests": [exactly(json!({}))],
        "constraints": [{"requests": ["r"], "matchAttribute": "d.io/model"}],
        "config": [{"requests": ["r"], "opaque": {"driver": "d.io", "parameters": {"a": 1}}}],
    });
    check(GROUP, "ResourceClaim", claim(good.clone()), &[]);
    check(GROUP, "ResourceClaimTemplate", json!({"spec": {"spec": {"devices": good}}}), &[]);
    check(
        GROUP,
        "ResourceClaim",
        claim(
            json!({"requests": [{"name": "a"}, exactly(json!({"count": -1, "deviceClassName": ""})), exactly(json!({"allocationMode": "Some"}))]}),
        ),
        &[
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
            "spec.devices.requests[1].exactly.deviceClassName: Required value",
            "spec.devices.requests[1].exactly.count: Invalid value: -1: must be greater than zero",
            "spec.devices.requests[2].exactly.allocationMode: Unsupported value: \"Some\": supported values: \"All\", \"ExactCount\"",
            "spec.devices.requests[2]: Duplicate value: \"r\"",
        ],
    );
    check(
        GROUP,
        "ResourceClaim",
        claim(json!({
            "requests": [exactly(json!({"tolerations": [{"operator": "Exists", "value": "v", "effect": "Bad"}], "selectors": [{}]}))],
            "constraints": [{"requests": ["x"], "matchAttribute": "model"}, {}],
            "config": [{"opaque": {"driver": "d.io", "parameters": [1]}}, {}],
        })),
        &[
            "spec.devices.requests[0].exactly.selectors[0].cel: Required value",
            "spec.devices.requests[0].exactly.tolerations[0].value: Invalid value: \"v\": must be empty for operator `Exists`",
            "spec.devices.requests[0].exactly.tolerations[0].effect: Unsupported value: \"Bad\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            "spec.devices.constraints[0].requests[0]: Invalid value: \"x\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"model\": a fully qualified name must be a domain and a name separated by a slash",
            "spec.devices.constraints[1].matchAttribute: Required value",
            "spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
            "spec.devices.config[1].opaque: Required value",
        ],
    );
    let (old, new) = (claim(json!({"requests": [exactly(json!({}))]})), claim(json!({"requests": []})));
    check_update(
        GROUP,
        "ResourceClaim",
        old,
        new,
        &["spec: Invalid value: {\"devices\":{\"requests\":[]}}: field is immutable"],
    );
}

#[test]
fn the_status_of_a_claim() {
    let with = |status: Value| {
        let mut claim = claim(json!({"requests": [exactly(json!({}))]}));
        claim["status"] = status;
        claim
    };
    let result = json!({"request": "r", "driver": "d.io", "pool": "p", "device": "x"});
    let allocated = json!({"devices": {"results": [result]}});
    let check = |old: Value, new: Value, expected: &[&str]| {
        assert_eq!(told(update_status(GROUP, "ResourceClaim", &with(new), &with(old))), expected);
    };
    check(json!({}), json!({"allocation": allocated}), &[]);
    check(
        json!({}),
        json!({"reservedFor": [{"resource": "pods", "name": "a", "uid": ""}]}),
        &[
            "status.reservedFor[0].uid: Required value",
            "status.reservedFor: Forbidden: may not be specified when `allocated` is not set",
        ],
    );
    let mut other = allocated.clone();
    other["devices"]["results"][0]["device"] = json!("y");
    check(
        json!({"allocation": allocated}),
        json!({"allocation": other, "devices": [{"driver": "d.io", "pool": "p", "device": "z", "networkData": {"ips": ["1.2.3.4"]}}]}),
        &[
            "status.devices[0]: Invalid value: \"d.io/p/z\": must be an allocated device in the claim",
            "status.devices[0].networkData.ips[0]: Invalid value: \"1.2.3.4\": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)",
            "status.allocation: Invalid value: {\"devices\":{\"results\":[{\"device\":\"y\",\"driver\":\"d.io\",\"pool\":\"p\",\"request\":\"r\"}]}}: field is immutable",
        ],
    );
}

#[test]
fn classes_and_slices() {
    check(GROUP, "DeviceClass", json!({"spec": {"extendedResourceName": "example.com/gpu"}}), &[]);
    check(
        GROUP,
        "DeviceClass",
        json!({"spec": {"extendedResourceName": "gpu"}}),
        &["spec.extendedResourceName: Invalid value: \"gpu\": must be a valid extended resource name"],
    );
    let slice = |more: Value| {
        let mut spec =
            json!({"driver": "d.io", "nodeName": "n", "pool": {"name": "p", "resourceSliceCount": 1}});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        json!({"spec": spec})
    };
    check(
        GROUP,
        "ResourceSlice",
        slice(
            json!({"devices": [{"name": "x", "attributes": {"model": {"string": "m"}, "d.io/version": {"version": "1.2.3-rc.1+b"}}, "capacity": {"memory": {"value": "1Gi"}}}]}),
        ),
        &[],
    );
    check(
        GROUP,
        "ResourceSlice",
        slice(json!({"allNodes": true, "pool": {"name": "p"}, "devices": [
            {"name": "x", "attributes": {"a": {}, "b": {"version": "1.02.3"}}, "taints": [{"key": "k", "effect": "Bad"}]},
            {"name": "x", "nodeName": "n"},
        ]})),
        &[
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
            "spec.devices[0].attributes[a]: Invalid value: \"\": exactly one value must be specified",
            "spec.devices[0].attributes[b].version: Invalid value: \"1.02.3\": must be a string compatible with semver.org spec 2.0.0",
            "spec.devices[0].taints[0].effect: Unsupported value: \"Bad\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
            "spec.devices[1]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
            "spec.devices[1]: Duplicate value: \"x\"",
        ],
    );
    check_update(
        GROUP,
        "ResourceSlice",
        slice(json!({})),
        slice(json!({"driver": "e.io"})),
        &["spec.driver: Invalid value: \"e.io\": field is immutable"],
    );
}
