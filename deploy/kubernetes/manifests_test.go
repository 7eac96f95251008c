// Package kubernetes tests the manifests beside it against Kubernetes' own types:
// a module of its own, so that nobody else needs them.
package kubernetes

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/yaml"
)

// manifest is what a file declares.
type manifest struct {
	pods     []pods
	services []corev1.Service
	budgets  []policyv1.PodDisruptionBudget
}

// pods are those of one Deployment or StatefulSet.
type pods struct {
	selector *v1.LabelSelector
	template corev1.PodTemplateSpec
	volumes  []string // from claims
}

// strict decodes a document in which every field must be one that the type has,
// and given once.
func strict[T any](t *testing.T, document []byte) T {
	t.Helper()
	var object T
	if err := yaml.UnmarshalStrict(document, &object); err != nil {
		t.Fatal(err)
	}
	return object
}

func read(t *testing.T, path string) manifest {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var m manifest
	for _, document := range bytes.Split(text, []byte("\n---\n")) {
		var kind v1.TypeMeta
		if err := yaml.Unmarshal(document, &kind); err != nil {
			t.Fatal(err)
		}
		switch kind.APIVersion + " " + kind.Kind {
		case "apps/v1 Deployment":
			d := strict[appsv1.Deployment](t, document)
			m.pods = append(m.pods, pods{selector: d.Spec.Selector, template: d.Spec.Template})
		case "apps/v1 StatefulSet":
			s := strict[appsv1.StatefulSet](t, document)
			p := pods{selector: s.Spec.Selector, template: s.Spec.Template}
			for _, claim := range s.Spec.VolumeClaimTemplates {
				p.volumes = append(p.volumes, claim.Name)
			}
			m.pods = append(m.pods, p)
		case "v1 Service":
			m.services = append(m.services, strict[corev1.Service](t, document))
		case "policy/v1 PodDisruptionBudget":
			m.budgets = append(m.budgets, strict[policyv1.PodDisruptionBudget](t, document))
		default:
			t.Errorf("%s: no type for %s %s", path, kind.APIVersion, kind.Kind)
		}
	}
	return m
}

func selects(t *testing.T, selector *v1.LabelSelector, set map[string]string) bool {
	t.Helper()
	s, err := v1.LabelSelectorAsSelector(selector)
	if err != nil {
		t.Fatal(err)
	}
	return !s.Empty() && s.Matches(labels.Set(set))
}

// TestManifestsFitTogether: the fields are Kubernetes', names refer to what is there, the
// variables are counterd's, and a pod has the time it takes to stop.
func TestManifestsFitTogether(t *testing.T) {
	help, err := exec.Command("go", "-C", "../..", "run", "./cmd/counterd", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	paths, err := filepath.Glob("*.yaml")
	if err != nil || len(paths) < 2 {
		t.Fatalf("the manifests are %v: %v", paths, err)
	}
	for _, path := range paths {
		m := read(t, path)
		if len(m.pods) != 1 || len(m.services) != 1 {
			t.Fatalf("%s has %d sets of pods and %d services", path, len(m.pods), len(m.services))
		}
		p := m.pods[0]
		if !selects(t, p.selector, p.template.Labels) {
			t.Errorf("%s doesn't select its own pods", path)
		}
		for _, b := range m.budgets {
			if !selects(t, b.Spec.Selector, p.template.Labels) {
				t.Errorf("%s: the budget doesn't select the pods", path)
			}
		}
		if !labels.SelectorFromSet(m.services[0].Spec.Selector).Matches(labels.Set(p.template.Labels)) {
			t.Errorf("%s: the service doesn't select the pods", path)
		}
		container := p.template.Spec.Containers[0]
		ports := map[string]bool{}
		for _, port := range container.Ports {
			ports[port.Name] = true
		}
		named := []string{container.ReadinessProbe.HTTPGet.Port.StrVal, container.LivenessProbe.HTTPGet.Port.StrVal}
		for _, port := range m.services[0].Spec.Ports {
			named = append(named, port.TargetPort.StrVal)
		}
		for _, name := range named {
			if !ports[name] {
				t.Errorf("%s: no port is named %q", path, name)
			}
		}
		for i, mount := range container.VolumeMounts {
			if i >= len(p.volumes) || p.volumes[i] != mount.Name {
				t.Errorf("%s: no volume is named %q", path, mount.Name)
			}
		}
		stop := time.Second // to close the store
		for _, env := range container.Env {
			if strings.HasPrefix(env.Name, "COUNTERD_") && !bytes.Contains(help, []byte("["+env.Name+"]")) {
				t.Errorf("%s: counterd doesn't know %s", path, env.Name)
			}
			if strings.HasPrefix(env.Name, "COUNTERD_DRAIN_") {
				d, err := time.ParseDuration(env.Value)
				if err != nil {
					t.Errorf("%s: %s: %v", path, env.Name, err)
				}
				stop += d
			}
		}
		if grace := time.Duration(*p.template.Spec.TerminationGracePeriodSeconds) * time.Second; grace <= stop {
			t.Errorf("%s: a pod is killed after %v, and takes up to %v to stop", path, grace, stop)
		}
	}
}
