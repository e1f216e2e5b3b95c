//! Expressions of the cluster's owner: admission policies, and rules of custom resources.

use sampan_testkit::Cluster;

const POLICY: &str = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: replicas}
spec:
  failurePolicy: Fail
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [deployments]}
  matchConditions:
  - {name: not-exempt, expression: '!(\"exempt\" in object.metadata.?labels.orValue({}))'}
  variables:
  - {name: limit, expression: 'params != null ? int(params.data.max) : 5'}
  validations:
  - {expression: object.spec.replicas <= variables.limit,
     messageExpression: '\"at most \" + string(variables.limit) + \" replicas\"'}
  - {expression: object.spec.replicas <= 50, reason: Forbidden}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: denies}
spec:
  policyName: replicas
  validationActions: [Deny]
  paramRef: {name: limits, parameterNotFoundAction: Allow}
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: policies}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: names}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}
  validations:
  - expression: \"!object.metadata.name.startsWith('x')\"
  - expression: \"request.operation == 'CREATE' && namespaceObject.metadata.name == 'policies'\"
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: warns}
spec:
  policyName: names
  validationActions: [Warn, Audit]
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: policies}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: plain}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [secrets]}
  validations:
  - expression: object.metadata.name != 'no' || authorizer.group('').resource('secrets').namespace('policies').check('nonsense').allowed()
  - {expression: object.type != 'typed', message: no types}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: plain}
spec: {policyName: plain, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: scales}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [UPDATE], resources: [deployments/scale]}
  validations:
  - {expression: object.kind == 'Scale' && oldObject.kind == 'Scale' && request.kind.kind == 'Scale'}
  - {expression: object.spec.replicas <= 4, message: too large a scale}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: scales}
spec: {policyName: scales, validationActions: [Deny]}
";

pub fn validating(cluster: &mut Cluster) {
    let namespace = cluster.namespace("policies");
    namespace.kubectl_stdin(&["apply", "-f", "-"], POLICY).ok();
    let deploy = |name: &str, replicas: &str| {
        namespace.kubectl(&[
            "create",
            "deployment",
            name,
            "--image=example.com/none:1",
            "--replicas",
            replicas,
        ])
    };
    // Without parameters nothing is evaluated; with them their limit holds.
    deploy("one", "20").ok();
    namespace.kubectl(&["create", "configmap", "limits", "--from-literal=max=3"]).ok();
    deploy("two", "3").ok();
    deploy("three", "4").fails().says(&[
        "ValidatingAdmissionPolicy 'replicas' with binding 'denies' denied request: at most 3 replicas",
    ]);
    namespace.kubectl(&["annotate", "deployment/one", "a=b"]).fails().says(&["at most 3 replicas"]);
    namespace.kubectl(&["label", "deployment/one", "exempt=yes"]).ok();
    // What is shown of a scale is the scale.
    let scale = |replicas: &str| namespace.kubectl(&["scale", "deployment/two", "--replicas", replicas]);
    scale("5").fails().says(&[
        "ValidatingAdmissionPolicy 'scales' with binding 'scales' denied request: too large a scale",
    ]);
    scale("2").ok();
    // A warning lets the object through.
    namespace.kubectl(&["create", "configmap", "xyz"]).ok().says(&[
        "Warning: Validation failed for ValidatingAdmissionPolicy 'names' with binding 'warns': failed expression: !object.metadata.name.startsWith('x')",
    ]);
    namespace.kubectl(&["create", "secret", "generic", "yes"]).ok();
    namespace
        .kubectl(&["create", "secret", "generic", "t", "--type=typed"])
        .fails()
        .says(&["ValidatingAdmissionPolicy 'plain' with binding 'plain' denied request: no types"]);
    let all = ["delete", "validatingadmissionpolicies,validatingadmissionpolicybindings", "--all"];
    namespace.kubectl(&all).ok();
    namespace.kubectl(&["create", "secret", "generic", "t", "--type=typed"]).ok();
}

pub fn refused(cluster: &mut Cluster) {
    let namespace = cluster.namespace("refused");
    let broken = POLICY.replace("object.spec.replicas <= 50", "object.spec.replicas <= nothing");
    namespace.kubectl_stdin(&["create", "-f", "-"], &broken).fails().says(&[
        "The ValidatingAdmissionPolicy \"replicas\" is invalid: spec.validations[1].expression: Invalid value: \"object.spec.replicas <= nothing\": compilation failed: ERROR: <input>:1:25: undeclared reference to 'nothing' (in container '')",
    ]);
    let typed = POLICY.replace("object.spec.replicas <= 50", "1 + 1");
    namespace.kubectl_stdin(&["create", "-f", "-"], &typed).fails().says(&["must evaluate to bool"]);
    let all = ["delete", "validatingadmissionpolicies,validatingadmissionpolicybindings", "--all"];
    namespace.kubectl(&all).ok();
}

pub fn types(cluster: &mut Cluster) {
    let namespace = cluster.namespace("types");
    let mistaken = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: types}
spec:
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  validations:
  - expression: object.spec.replicas > '1'
    messageExpression: \"'wants ' + string(object.spec.replicas)\"
";
    let seen = |generation: &str| {
        namespace.wait_for("validatingadmissionpolicy/types", ".status.observedGeneration", generation);
        namespace.get("validatingadmissionpolicy/types", ".status.typeChecking")
    };
    namespace.apply(mistaken);
    let told = seen("1");
    for part in ["spec.validations[0].expression", "apps/v1, Kind=Deployment", "found no matching overload"] {
        assert!(told.contains(part), "{part} is in {told}");
    }
    assert!(!told.contains("messageExpression"), "{told}");
    namespace.apply(&mistaken.replace("'1'", "1"));
    assert_eq!(seen("2"), "{}");
    namespace.kubectl(&["delete", "validatingadmissionpolicy/types"]).ok();
    let conditions = "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: conditions}
webhooks:
- name: one.example.com
  clientConfig: {url: 'https://127.0.0.1:1/'}
  admissionReviewVersions: [v1]
  sideEffects: None
  matchConditions: [{name: a, expression: nobody == 1}]
";
    namespace.kubectl_stdin(&["create", "-f", "-"], conditions).fails().says(&[
        "webhooks[0].matchConditions[0].expression: Invalid value: \"nobody == 1\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'nobody'",
    ]);
}

const MUTATING: &str = "
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicy
metadata: {name: a-labels}
spec:
  reinvocationPolicy: IfNeeded
  paramKind: {apiVersion: v1, kind: ConfigMap}
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  matchConditions:
  - {name: not-exempt, expression: '!(\"exempt\" in object.metadata.?labels.orValue({}))'}
  variables:
  - {name: team, expression: params.data.team}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: >
        Object{metadata: Object.metadata{labels: {'team': variables.team}},
          spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
            containers: object.spec.template.spec.containers.map(c,
              Object.spec.template.spec.containers{name: c.name, imagePullPolicy: 'Never'})}}}}
  - patchType: JSONPatch
    jsonPatch:
      expression: >
        [JSONPatch{op: 'test', path: '/spec/replicas', value: object.spec.replicas},
         JSONPatch{op: 'add', path: '/metadata/annotations', value: {'by': request.userInfo.username}},
         JSONPatch{op: 'add', path: '/metadata/annotations/' + jsonpatch.escapeKey('example.com/count'),
           value: string(size(object.metadata.labels))}]
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicyBinding
metadata: {name: labels}
spec:
  policyName: a-labels
  paramRef: {name: team, parameterNotFoundAction: Deny}
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mutating}}
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicy
metadata: {name: b-second}
spec:
  failurePolicy: Fail
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [apps], apiVersions: [v1], operations: [CREATE], resources: [deployments]}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: 'Object{metadata: Object.metadata{labels: {\"second\": \"yes\"}}}'
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicyBinding
metadata: {name: second}
spec:
  policyName: b-second
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mutating}}
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicy
metadata: {name: b-scales}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: ['*'], apiVersions: ['*'], operations: [UPDATE], resources: ['*/scale']}
  mutations:
  - patchType: ApplyConfiguration
    applyConfiguration:
      expression: 'object.spec.replicas > 3 ? Object{spec: Object.spec{replicas: 3}} : Object{}'
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicyBinding
metadata: {name: scales}
spec: {policyName: b-scales}
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicy
metadata: {name: c-fails}
spec:
  reinvocationPolicy: Never
  matchConstraints:
    resourceRules:
    - {apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [secrets]}
  mutations:
  - patchType: JSONPatch
    jsonPatch: {expression: '[JSONPatch{op: \"remove\", path: \"/data/\" + object.metadata.name}]'}
---
apiVersion: admissionregistration.k8s.io/v1beta1
kind: MutatingAdmissionPolicyBinding
metadata: {name: fails}
spec:
  policyName: c-fails
  matchResources:
    namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: mutating}}
";

pub fn mutating(cluster: &mut Cluster) {
    let namespace = cluster.namespace("mutating");
    namespace.kubectl_stdin(&["apply", "-f", "-"], MUTATING).ok();
    namespace
        .kubectl(&["get", "mutatingadmissionpolicies"])
        .ok()
        .matches(r"^NAME +MUTATIONS +PARAMKIND +AGE$")
        .matches(r"^a-labels +2 +v1/ConfigMap +\S+$");
    namespace
        .kubectl(&["get", "mutatingadmissionpolicybindings", "labels"])
        .ok()
        .matches(r"^labels +a-labels +\*/team +\S+$");
    let deploy =
        |name: &str| namespace.kubectl(&["create", "deployment", name, "--image=example.com/none:1"]);
    deploy("one").fails().says(&[
        "policy 'a-labels' with binding 'labels' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
    ]);
    namespace.kubectl(&["create", "configmap", "team", "--from-literal=team=blue"]).ok();
    deploy("one").ok();
    let shown = |path: &str| namespace.get("deployment/one", path);
    assert_eq!(shown(".metadata.labels.team"), "blue");
    assert_eq!(shown(".metadata.labels.second"), "yes");
    assert_eq!(shown(".spec.template.spec.containers[0].imagePullPolicy"), "Never");
    assert_eq!(shown(".spec.template.spec.containers[0].image"), "example.com/none:1");
    assert_eq!(shown(".metadata.annotations.by"), "kubernetes-admin");
    // The first policy saw, once more, what the second one added.
    assert_eq!(shown(".metadata.annotations.example\\.com/count"), "3");
    namespace.kubectl(&["scale", "deployment/one", "--replicas=7"]).ok();
    assert_eq!(shown(".spec.replicas"), "3");
    namespace.kubectl(&["create", "secret", "generic", "a", "--from-literal=a=b"]).ok();
    assert_eq!(namespace.get("secret/a", ".data.a"), "");
    namespace.kubectl(&["create", "secret", "generic", "c", "--from-literal=a=b"]).fails().says(&[
        "policy 'c-fails' with binding 'fails' denied request: JSONPath: remove operation does not apply: doc is missing path: \"/data/c\"",
    ]);
    let all = ["delete", "mutatingadmissionpolicies,mutatingadmissionpolicybindings", "--all"];
    namespace.kubectl(&all).ok();
    namespace.kubectl(&["create", "secret", "generic", "c", "--from-literal=a=b"]).ok();
    let broken =
        MUTATING.replace("Object{metadata: Object.metadata{labels: {\"second\": \"yes\"}}}", "object");
    namespace.kubectl_stdin(&["create", "-f", "-"], &broken).fails().says(&[
        "The MutatingAdmissionPolicy \"b-second\" is invalid: spec.mutations[0].applyConfiguration.expression: Invalid value: \"object\": must evaluate to Object",
    ]);
    namespace.kubectl(&all).ok();
}

const DEFINITION: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: ranges.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: ranges, singular: range, kind: Range, listKind: RangeList}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        properties:
          spec:
            type: object
            properties:
              low: {type: integer}
              high:
                type: integer
                x-kubernetes-validations:
                - {rule: self >= oldSelf, message: high never falls}
            x-kubernetes-validations:
            - {rule: self.low <= self.high, messageExpression: '\"low \" + string(self.low) + \" is above high\"'}
";

pub fn rules(cluster: &mut Cluster) {
    let namespace = cluster.namespace("rules");
    let broken = DEFINITION.replace("self.low <= self.high", "self.low <= self.hig");
    namespace.kubectl_stdin(&["create", "-f", "-"], &broken).fails().says(&[
        "spec.validation.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value:",
        "compilation failed: ERROR: <input>:1:17: undefined field 'hig'",
    ]);
    namespace.kubectl_stdin(&["create", "-f", "-"], DEFINITION).ok();
    namespace
        .kubectl(&["wait", "--for=condition=Established", "crd/ranges.example.com", "--timeout=10s"])
        .ok();
    let range = |low: u32, high: u32| {
        let object = format!(
            "apiVersion: example.com/v1\nkind: Range\nmetadata: {{name: r}}\nspec: {{low: {low}, high: {high}}}\n"
        );
        namespace.kubectl_stdin(&["apply", "-f", "-"], &object)
    };
    range(3, 2)
        .fails()
        .says(&["The Range \"r\" is invalid: spec: Invalid value: \"object\": low 3 is above high"]);
    range(1, 9).ok();
    range(1, 8).fails().says(&["spec.high: Invalid value: \"integer\": high never falls"]);
    range(2, 9).ok();
    namespace.kubectl(&["delete", "crd", "ranges.example.com"]).ok();
}
