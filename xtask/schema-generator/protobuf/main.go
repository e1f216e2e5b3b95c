// Writes crates/api/schema/protobuf.txt: how Kubernetes' messages lie on the wire, and when a field
// stands in their JSON. It asks the Go types themselves, by reflection: only their struct tags know
// both the field numbers and what is omitted when empty.
//
// Usage, from this directory: go run . > ../../../crates/api/schema/protobuf.txt
//
// The format is described in crates/api/src/protobuf/table.rs.
package main

import (
	"bufio"
	"fmt"
	"os"
	"reflect"
	"sort"
	"strconv"
	"strings"

	admissionregistration "k8s.io/api/admissionregistration/v1"
	admissionregistrationv1beta1 "k8s.io/api/admissionregistration/v1beta1"
	apps "k8s.io/api/apps/v1"
	authentication "k8s.io/api/authentication/v1"
	authorization "k8s.io/api/authorization/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batch "k8s.io/api/batch/v1"
	certificates "k8s.io/api/certificates/v1"
	coordination "k8s.io/api/coordination/v1"
	core "k8s.io/api/core/v1"
	discovery "k8s.io/api/discovery/v1"
	events "k8s.io/api/events/v1"
	flowcontrol "k8s.io/api/flowcontrol/v1"
	networking "k8s.io/api/networking/v1"
	node "k8s.io/api/node/v1"
	policy "k8s.io/api/policy/v1"
	rbac "k8s.io/api/rbac/v1"
	resource "k8s.io/api/resource/v1"
	scheduling "k8s.io/api/scheduling/v1"
	storage "k8s.io/api/storage/v1"
	apiextensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	quantity "k8s.io/apimachinery/pkg/api/resource"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	apiregistration "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
)

// Message types with one letter of their own.
var letters = map[reflect.Type]string{
	reflect.TypeOf(meta.Time{}):            "t",
	reflect.TypeOf(meta.MicroTime{}):       "u",
	reflect.TypeOf(quantity.Quantity{}):    "q",
	reflect.TypeOf(intstr.IntOrString{}):   "?",
	reflect.TypeOf(runtime.RawExtension{}): "*",
	reflect.TypeOf(meta.FieldsV1{}):        "*",
	reflect.TypeOf(apiextensions.JSON{}):   "*",
}

// Messages whose JSON is the value of one of their two fields.
var unions = map[reflect.Type]bool{
	reflect.TypeOf(apiextensions.JSONSchemaPropsOrArray{}):       true,
	reflect.TypeOf(apiextensions.JSONSchemaPropsOrBool{}):        true,
	reflect.TypeOf(apiextensions.JSONSchemaPropsOrStringArray{}): true,
}

// Kinds of meta/v1 that travel on their own.
var metaKinds = []any{
	meta.APIGroup{}, meta.APIGroupList{}, meta.APIResourceList{}, meta.APIVersions{},
	meta.CreateOptions{}, meta.DeleteOptions{}, meta.PatchOptions{}, meta.UpdateOptions{},
	meta.PartialObjectMetadata{}, meta.Status{},
}

type message struct {
	name  string
	union bool
	lines []string
}

var (
	messages = map[reflect.Type]*message{}
	versions = map[string]string{}
)

func main() {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		admissionregistration.AddToScheme, apps.AddToScheme, authentication.AddToScheme, authorization.AddToScheme,
		autoscalingv1.AddToScheme, autoscalingv2.AddToScheme, batch.AddToScheme, certificates.AddToScheme,
		coordination.AddToScheme, core.AddToScheme, discovery.AddToScheme, events.AddToScheme,
		flowcontrol.AddToScheme, networking.AddToScheme, node.AddToScheme, policy.AddToScheme, rbac.AddToScheme,
		resource.AddToScheme, scheduling.AddToScheme, storage.AddToScheme, apiextensions.AddToScheme,
		apiregistration.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			fail("%v", err)
		}
	}
	// Of this version only what is served.
	scheme.AddKnownTypes(
		admissionregistrationv1beta1.SchemeGroupVersion,
		&admissionregistrationv1beta1.MutatingAdmissionPolicy{},
		&admissionregistrationv1beta1.MutatingAdmissionPolicyList{},
		&admissionregistrationv1beta1.MutatingAdmissionPolicyBinding{},
		&admissionregistrationv1beta1.MutatingAdmissionPolicyBindingList{},
	)
	for kind, of := range scheme.AllKnownTypes() {
		if strings.HasPrefix(packageOf(of), "io.k8s.apimachinery") || kind.Version == runtime.APIVersionInternal {
			continue
		}
		versions[packageOf(of)] = kind.GroupVersion().String()
		switch {
		case strings.HasSuffix(kind.Kind, "List"):
			checkList(of)
		case !strings.HasSuffix(kind.Kind, "Options"):
			visit(of)
		}
	}
	for _, kind := range metaKinds {
		visit(reflect.TypeOf(kind))
	}
	versions[packageOf(reflect.TypeOf(meta.Status{}))] = "v1"
	write()
}

// A list of any kind holds its metadata in field 1 and its items in field 2, so that no list needs
// an entry.
func checkList(of reflect.Type) {
	metadata, _ := of.FieldByName("ListMeta")
	items, _ := of.FieldByName("Items")
	if tag(metadata, "protobuf")[1] != "1" || tag(items, "protobuf")[1] != "2" || of.NumField() != 3 {
		fail("%v is no ordinary list", of)
	}
}

func visit(of reflect.Type) {
	if messages[of] != nil {
		return
	}
	if of.Kind() != reflect.Struct {
		fail("%v is no message", of)
	}
	one := &message{name: of.Name(), union: unions[of]}
	messages[of] = one
	numbers := map[int]string{}
	for at := 0; at < of.NumField(); at++ {
		field := of.Field(at)
		if field.Tag.Get("protobuf") == "" {
			if field.Type != reflect.TypeOf(meta.TypeMeta{}) {
				fail("%v.%s has no number", of, field.Name)
			}
			continue
		}
		wire, json := tag(field, "protobuf"), tag(field, "json")
		number, err := strconv.Atoi(wire[1])
		if err != nil {
			fail("%v.%s: %v", of, field.Name, err)
		}
		name, marks := json[0], ""
		inner := field.Type
		pointer := inner.Kind() == reflect.Pointer
		if pointer {
			inner = inner.Elem()
			marks += "?"
		}
		has := func(option string) bool { return strings.Contains(strings.Join(json[1:], ","), option) }
		if has("omitzero") {
			marks += "~"
		} else if !has("omitempty") && !one.union && !has("inline") {
			marks += "!"
		}
		kind := shape(inner)
		if field.Anonymous && (has("inline") || name == "") {
			if pointer {
				fail("%v.%s: an inlined pointer", of, field.Name)
			}
			name, marks = "^", ""
		} else if one.union {
			name = strings.ToLower(field.Name)
		}
		if name == "" || numbers[number] != "" {
			fail("%v.%s: no name, or number %d twice", of, field.Name, number)
		}
		numbers[number] = fmt.Sprintf(" %d %s%s %s", number, name, marks, kind)
	}
	order := []int{}
	for number := range numbers {
		order = append(order, number)
	}
	sort.Ints(order)
	for _, number := range order {
		one.lines = append(one.lines, numbers[number])
	}
}

func shape(of reflect.Type) string {
	if letter, ok := letters[of]; ok {
		return letter
	}
	switch of.Kind() {
	case reflect.String:
		return "s"
	case reflect.Bool:
		return "b"
	case reflect.Int32:
		return "i"
	case reflect.Int64:
		return "l"
	case reflect.Float64:
		return "d"
	case reflect.Slice:
		if of.Elem().Kind() == reflect.Uint8 {
			return "y"
		}
		// A list that is a message of its own: its only field, number 1, repeats.
		if reflect.PointerTo(of).Implements(reflect.TypeOf((*interface{ Marshal() ([]byte, error) })(nil)).Elem()) {
			return "&" + shape(of.Elem())
		}
		return "[" + shape(of.Elem())
	case reflect.Map:
		inner := of.Elem()
		if of.Key().Kind() != reflect.String {
			fail("%v: keys are no strings", of)
		}
		return "{" + shape(inner)
	case reflect.Struct:
		marshaler := reflect.TypeOf((*interface{ MarshalJSON() ([]byte, error) })(nil)).Elem()
		if of.Implements(marshaler) && !unions[of] {
			fail("%v has a JSON form of its own", of)
		}
		visit(of)
		return packageOf(of) + "." + of.Name()
	default:
		fail("%v: no such type is known", of)
		return ""
	}
}

func tag(field reflect.StructField, key string) []string {
	return strings.Split(field.Tag.Get(key), ",")
}

func packageOf(of reflect.Type) string {
	path := strings.Replace(of.PkgPath(), "k8s.io/", "io.k8s.", 1)
	return strings.ReplaceAll(path, "/", ".")
}

func write() {
	packages := map[string][]*message{}
	for of, one := range messages {
		packages[packageOf(of)] = append(packages[packageOf(of)], one)
	}
	names := []string{}
	for name := range packages {
		names = append(names, name)
	}
	sort.Strings(names)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	fmt.Fprintln(out, "# Written by xtask/schema-generator/protobuf.")
	for _, name := range names {
		fmt.Fprintf(out, "@%s %s\n", name, versions[name])
		list := packages[name]
		sort.Slice(list, func(a, b int) bool { return list[a].name < list[b].name })
		for _, one := range list {
			mark := ""
			if one.union {
				mark = "|"
			}
			fmt.Fprintf(out, ":%s%s\n", one.name, mark)
			for _, line := range one.lines {
				at := strings.LastIndex(line, " ") + 1
				nesting := len(line[at:]) - len(strings.TrimLeft(line[at:], "[{&"))
				of := line[at+nesting:]
				if rest, ok := strings.CutPrefix(of, name+"."); ok && !strings.Contains(rest, ".") {
					of = "." + rest
				}
				fmt.Fprintln(out, line[:at+nesting]+of)
			}
		}
	}
}

func fail(format string, arguments ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", arguments...)
	os.Exit(1)
}
