// The program apiserver reads manifests in YAML on its standard input and says what Kubernetes' API server would: strict
// decoding, defaults, and the checks of a create request, by the code of the API server itself. Pods must also keep to
// the Pod Security Standard named "restricted". Nothing is sent anywhere. It prints the kind of each manifest, or ends
// with status 1.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/endpoints/request"
	"k8s.io/apiserver/pkg/registry/rest"
	"k8s.io/kubernetes/pkg/api/legacyscheme"
	_ "k8s.io/kubernetes/pkg/apis/batch/install"
	_ "k8s.io/kubernetes/pkg/apis/core/install"
	"k8s.io/kubernetes/pkg/registry/batch/cronjob"
	"k8s.io/kubernetes/pkg/registry/batch/job"
	"k8s.io/kubernetes/pkg/registry/core/configmap"
	"k8s.io/kubernetes/pkg/registry/core/pod"
	"k8s.io/kubernetes/pkg/registry/core/serviceaccount"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// strategies are the API server's for a create request, by kind.
var strategies = map[string]rest.RESTCreateStrategy{
	"ConfigMap": configmap.Strategy, "CronJob": cronjob.Strategy, "Job": job.Strategy, "Pod": pod.Strategy, "ServiceAccount": serviceaccount.Strategy,
}

func main() {
	reader := utilyaml.NewYAMLReader(bufio.NewReader(os.Stdin))
	failed := false
	for {
		text, err := reader.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		kind := ""
		if err == nil {
			kind, err = check(text)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", kind, err)
			failed = true
			continue
		}
		fmt.Println(kind)
	}
	if failed {
		os.Exit(1)
	}
}

func check(text []byte) (kind string, err error) {
	scheme := legacyscheme.Scheme
	decoder := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	object, gvk, err := decoder.Decode(text, nil, nil)
	if err != nil {
		return "", err
	}
	strategy := strategies[gvk.Kind]
	if strategy == nil {
		return gvk.Kind, fmt.Errorf("no check of %s", gvk)
	}
	scheme.Default(object)
	meta, spec := podOf(object)
	internal, err := scheme.ConvertToVersion(object, runtime.InternalGroupVersioner)
	if err != nil {
		return gvk.Kind, err
	}
	created, err := apimeta.Accessor(internal)
	if err != nil {
		return gvk.Kind, err
	}
	rest.FillObjectMetaSystemFields(created)
	ctx := request.WithRequestInfo(request.WithNamespace(request.NewContext(), "dbt"), &request.RequestInfo{
		IsResourceRequest: true, Verb: "create", APIGroup: gvk.Group, APIVersion: gvk.Version, Namespace: "dbt", Resource: strings.ToLower(gvk.Kind) + "s",
	})
	if err := rest.BeforeCreate(strategy, ctx, internal); err != nil {
		return gvk.Kind, err
	}
	if spec == nil {
		return gvk.Kind, nil
	}
	return gvk.Kind, restricted(meta, spec)
}

// podOf returns the pod that a workload makes, nil for what makes none.
func podOf(object runtime.Object) (*metav1.ObjectMeta, *corev1.PodSpec) {
	switch o := object.(type) {
	case *corev1.Pod:
		return &o.ObjectMeta, &o.Spec
	case *batchv1.Job:
		return &o.Spec.Template.ObjectMeta, &o.Spec.Template.Spec
	case *batchv1.CronJob:
		return &o.Spec.JobTemplate.Spec.Template.ObjectMeta, &o.Spec.JobTemplate.Spec.Template.Spec
	}
	return nil, nil
}

func restricted(meta *metav1.ObjectMeta, spec *corev1.PodSpec) error {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		return err
	}
	var all []error
	level := api.LevelVersion{Level: api.LevelRestricted, Version: api.LatestVersion()}
	for _, result := range evaluator.EvaluatePod(level, meta, spec) {
		if !result.Allowed {
			all = append(all, fmt.Errorf("not restricted: %s: %s", result.ForbiddenReason, result.ForbiddenDetail))
		}
	}
	return errors.Join(all...)
}
