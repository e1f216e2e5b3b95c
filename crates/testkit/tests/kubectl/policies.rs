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
