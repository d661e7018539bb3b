package policy

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/lazy"
)

// Audit is where records go, besides the job's own file.
type Audit struct {
	OTLP     string // the base of an OpenTelemetry collector's URL; "" for none
	Bucket   Bucket
	Required []string // of "otlp" and "bucket": without it no credential is handed on
}

// A Bucket is where records become objects that the job cannot change.
type Bucket struct {
	Target   string // whose credential may write it; "" for no bucket
	URL      string // as the policy has it
	Kind     string // "s3", "gs", "azure"
	Name     string // the bucket, the container
	Prefix   string // "" or a path that ends in a slash
	Endpoint string // of Azure's account, and of S3 elsewhere than at AWS; "" for the vendor's own
}

// Places are where records go, for a reader.
func (a Audit) Places() (list []string) {
	if a.OTLP != "" {
		list = append(list, a.OTLP)
	}
	if b := a.Bucket; b.Target != "" {
		place := b.URL
		if b.Kind == "s3" && b.Endpoint != "" {
			place += " at " + b.Endpoint
		}
		list = append(list, fmt.Sprintf("%s (target %s)", place, b.Target))
	}
	return list
}

// Audit returns where the policy ships its records.
func (p *Policy) Audit() Audit { return p.audit }

var (
	auditKeys  = []string{"otlp", "bucket", "require"}
	bucketKeys = []string{"target", "url", "endpoint"}
)

// auditWays are what `require` may name.
var auditWays = []string{"otlp", "bucket"}

// bucketProviders are the providers of a bucket's target, by the bucket's kind.
var bucketProviders = map[string]string{"s3": "aws", "gs": "gcp", "azure": "entra"}

func (d *document) audit(p *Policy, n *yaml.Node) {
	m, ok := d.Mapping(n, n, "audit", auditKeys)
	if !ok {
		return
	}
	if v := m.Get("otlp"); v != nil {
		if o, ok := d.Mapping(v, v, "audit.otlp", []string{"endpoint"}); ok {
			if e := o.Get("endpoint"); e == nil {
				o.Missing("endpoint: the URL of an OpenTelemetry collector")
			} else {
				p.audit.OTLP = d.url(e, "audit.otlp.endpoint")
			}
		}
	}
	if v := m.Get("bucket"); v != nil {
		d.bucket(p, v)
	}
	if v := m.Get("require"); v != nil {
		for _, e := range d.Texts(v, "audit.require") {
			switch {
			case !slices.Contains(auditWays, e.Value):
				d.Report(e, "audit.require: %q is none of %q", e.Value, auditWays)
			case m.Get(e.Value) == nil:
				d.Report(e, "audit.require names %s, which audit does not have", e.Value)
			default:
				p.audit.Required = append(p.audit.Required, e.Value)
			}
		}
	}
	if m.Get("otlp") == nil && m.Get("bucket") == nil {
		d.Report(n, "audit has neither otlp nor bucket")
	}
}

// bucket reads where objects go, and holds the target that writes them to it.
func (d *document) bucket(p *Policy, n *yaml.Node) {
	m, ok := d.Mapping(n, n, "audit.bucket", bucketKeys)
	if !ok {
		return
	}
	place, name := m.Get("url"), m.Get("target")
	if place == nil {
		m.Missing("url: s3://BUCKET/PREFIX/, gs://BUCKET/PREFIX/ or https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX/")
	}
	if name == nil {
		m.Missing("target: one of the policy's, whose credential may only write there")
	}
	if place == nil || name == nil {
		return
	}
	if d.userinfo(place, "audit.bucket.url") {
		return
	}
	b, err := parseBucket(d.Text(place, "audit.bucket.url"))
	if err != nil {
		d.Report(place, "audit.bucket.url %v", err)
		return
	}
	b.Target = d.Text(name, "audit.bucket.target")
	switch e := m.Get("endpoint"); {
	case e == nil:
	case b.Kind != "s3":
		d.Report(e, "audit.bucket.endpoint is for s3:// only")
	default:
		b.Endpoint = strings.TrimSuffix(d.url(e, "audit.bucket.endpoint"), "/")
	}
	p.audit.Bucket = b
	d.bucketAt = name
}

// bucketTarget checks the target, once all targets are known.
func (d *document) bucketTarget(p *Policy) {
	at, b := d.bucketAt, p.audit.Bucket
	if at == nil {
		return
	}
	i := slices.IndexFunc(p.targets, func(t *Target) bool { return t.name == b.Target })
	if i < 0 {
		d.Report(at, "audit.bucket.target is %q, the policy has %q%s", b.Target, p.Targets(), otherNames.DidYouMean(b.Target, p.Targets()))
		return
	}
	if len(p.targets) == 1 {
		d.Report(at, "audit.bucket.target %q is the policy's only target: records are of requests for others", b.Target)
	}
	for _, err := range p.targets[i].forBucket(b) {
		d.Report(at, "audit.bucket.target %q %v", b.Target, err)
	}
}

// forBucket returns why the target's credential cannot be one for a bucket.
func (t *Target) forBucket(b Bucket) (faults []error) {
	if t.dbt.Type != "" || t.dbt.From != "" || t.dbt.Client {
		faults = append(faults, errors.New("has a dbt block or a client: want a target for credentials only, "+
			"which is for the bucket and nothing else"))
	}
	if want := bucketProviders[b.Kind]; t.provider != "" && t.provider != want {
		faults = append(faults, fmt.Errorf("has provider %q, want %q for %s", t.provider, want, b.URL))
	}
	return faults
}

// Bucket returns the bucket at a URL for a target of the policy, whose
// credential will read it. An endpoint is that of the policy's own bucket, where
// it is the same one. The error is of class Usage.
func (p *Policy) Bucket(address, target string) (Bucket, error) {
	t, err := p.Target(target)
	if err != nil {
		return Bucket{}, err
	}
	if userinfoText.MatchString(address) {
		return Bucket{}, fault.New(fault.Usage, errors.New("the bucket's URL contains user information (…): remove it"), "")
	}
	b, err := parseBucket(address)
	if err != nil {
		return b, fault.New(fault.Usage, fmt.Errorf("bucket %q %w", address, err), "")
	}
	if faults := t.forBucket(b); len(faults) > 0 {
		return b, fault.New(fault.Usage, fmt.Errorf("target %q %w", target, faults[0]), "")
	}
	b.Target = target
	if own := p.audit.Bucket; own.Kind == b.Kind && own.Name == b.Name && b.Kind == "s3" {
		b.Endpoint = own.Endpoint
	}
	return b, nil
}

var (
	// bucketName is S3's and Google's form. (Amazon S3: general purpose bucket
	// naming rules; Cloud Storage: bucket names)
	bucketName = lazy.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)
	// containerName is Azure's. (Azure Storage: naming containers)
	containerName = lazy.MustCompile(`^[a-z0-9](-?[a-z0-9]){2,62}$`)
	prefixText    = lazy.MustCompile(`^([A-Za-z0-9=._-]+/)*$`)
	azureHost     = lazy.MustCompile(`^[a-z0-9]{3,24}\.blob\.core\.(windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)$`)
)

const wantBucket = "s3://BUCKET/PREFIX/, gs://BUCKET/PREFIX/ or https://ACCOUNT.blob.core.windows.net/CONTAINER/PREFIX/"

func parseBucket(text string) (b Bucket, err error) {
	u, err := url.Parse(text)
	if err != nil || u.RawQuery != "" || u.Fragment != "" {
		return b, fmt.Errorf("is not a bucket's URL, want %s", wantBucket)
	}
	path, name := strings.TrimPrefix(u.Path, "/"), bucketName
	switch {
	case u.Scheme == "s3", u.Scheme == "gs":
		b.Kind, b.Name = u.Scheme, u.Host
	case u.Scheme == "https" && azureHost.MatchString(u.Host), u.Scheme == "http" && IsLoopback(u.Hostname()): // an emulator
		b.Kind, b.Endpoint, name = "azure", u.Scheme+"://"+u.Host, containerName
		b.Name, path, _ = strings.Cut(path, "/")
	case u.Scheme == "https":
		return b, fmt.Errorf("has the host %q, which is not Azure Storage's, want %s", u.Host, wantBucket)
	default:
		return b, fmt.Errorf("is %q, want %s", text, wantBucket)
	}
	if path != "" && !strings.HasSuffix(path, "/") {
		path += "/"
	}
	switch {
	case !name.MatchString(b.Name):
		return b, fmt.Errorf("names the bucket %q, want %s", b.Name, wantBucket)
	case !prefixText.MatchString(path) || strings.Contains("/"+path, "/../") || strings.Contains("/"+path, "/./"):
		return b, fmt.Errorf("has the prefix %q, want letters, digits and =._- between slashes", path)
	}
	b.Prefix, b.URL = path, text
	return b, nil
}
