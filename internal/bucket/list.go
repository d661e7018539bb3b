package bucket

import (
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"

	"github.com/oidc-dbt/oidc-dbt/internal/credential"
	"github.com/oidc-dbt/oidc-dbt/internal/fault"
	"github.com/oidc-dbt/oidc-dbt/internal/web"
)

// pageSize is how many objects, or versions of them, a listing is asked for at
// once. Of names that are long and full of escapes, so many can be more than
// web.MaxBody, on purpose: then it asks for fewer.
const pageSize = 500

// An entry is one version of an object.
type entry struct {
	key     string
	version string // "" where the store has only one, or does not say
	size    int64
}

// A page is a part of a listing.
type page struct {
	entries []entry
	next    url.Values // what the next page is asked for by, nil for none
	size    int        // how many entries it was asked for
}

// A dialect is how one kind of bucket is listed.
type dialect struct {
	query map[string]string // with every page
	limit string            // the parameter that has pageSize
	parse func(body []byte) (page, error)
	// version is the parameter that names a version.
	version    string
	list, read string // the permissions for it
}

var dialects = map[string]dialect{
	// Amazon S3 API Reference, ListObjectVersions, GetObject
	"s3": {map[string]string{"versions": "", "encoding-type": "url"}, "max-keys", parseS3, "versionId",
		"s3:ListBucketVersions on the bucket", "s3:GetObject and s3:GetObjectVersion on its objects"},
	// Cloud Storage JSON API, Objects: list; XML API, GET Object
	"gs": {map[string]string{"versions": "true", "fields": "items(name,size,generation),nextPageToken"}, "maxResults",
		parseGoogle, "generation",
		"storage.objects.list (roles/storage.objectViewer)", "storage.objects.get (roles/storage.objectViewer)"},
	// Azure Storage, List Blobs, Get Blob
	"azure": {map[string]string{"restype": "container", "comp": "list"}, "maxresults", parseAzure, "",
		"the role Storage Blob Data Reader on the container", "the role Storage Blob Data Reader on the container"},
}

// listing is the address of a page.
func (b *Bucket) listing(c credential.Credential, prefix string, next url.Values, size int) string {
	d := dialects[b.place.Kind]
	q := url.Values{"prefix": {prefix}, d.limit: {strconv.Itoa(size)}}
	for name, value := range d.query {
		q.Set(name, value)
	}
	for name := range next {
		q.Set(name, next.Get(name))
	}
	root := b.root(c)
	switch b.place.Kind {
	case "gs":
		root = "https://storage.googleapis.com/storage/v1/b/" + b.place.Name + "/o"
	case "s3":
		root += "/"
	}
	return root + "?" + q.Encode()
}

// page reads one page of a listing, of at most size entries.
func (b *Bucket) page(ctx context.Context, prefix string, next url.Values, size int) (p page, err error) {
	for ; ; size /= 2 {
		p, err = b.pageOf(ctx, prefix, next, size)
		if p.size = size; size == 1 || !web.IsTooLarge(err) {
			return p, err
		}
	}
}

func (b *Bucket) pageOf(ctx context.Context, prefix string, next url.Values, size int) (page, error) {
	c, err := b.held(ctx)
	if err != nil {
		return page{}, err
	}
	return web.Retry(ctx, func(ctx context.Context) (page, error) {
		r, err := b.send(ctx, c, http.MethodGet, b.listing(c, prefix, next, size), http.Header{}, nil)
		switch {
		case err != nil:
			return page{}, err
		case r.status == http.StatusNotFound:
			return page{}, fault.New(fault.Usage,
				fmt.Errorf("there is no bucket %q: status %d%s", b.place.Name, r.status, r.words), "")
		case r.status != http.StatusOK:
			return page{}, b.refusal(r, "list objects", dialects[b.place.Kind].list)
		}
		p, err := dialects[b.place.Kind].parse(r.body)
		if err != nil { // half of one may have come
			return page{}, web.Brief(fault.New(fault.Unreachable,
				fmt.Errorf("the bucket's list of objects is not valid: %w", err), ""))
		}
		return p, nil
	})
}

func parseS3(body []byte) (p page, err error) {
	var list struct {
		XMLName             xml.Name `xml:"ListVersionsResult"`
		EncodingType        string
		IsTruncated         bool
		NextKeyMarker       string
		NextVersionIDMarker string `xml:"NextVersionIdMarker"`
		Version             []struct {
			Key       string
			VersionID string `xml:"VersionId"`
			Size      int64
		}
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		return p, errors.New("want XML with a ListVersionsResult") // the decoder's words hold parts of it
	}
	plain := func(text string) string {
		if decoded, derr := url.QueryUnescape(text); derr == nil && list.EncodingType == "url" {
			return decoded
		}
		return text
	}
	for _, v := range list.Version {
		p.entries = append(p.entries, entry{plain(v.Key), v.VersionID, v.Size})
	}
	if list.IsTruncated {
		p.next = url.Values{"key-marker": {plain(list.NextKeyMarker)}, "version-id-marker": {list.NextVersionIDMarker}}
		if list.NextVersionIDMarker == "" {
			p.next.Del("version-id-marker")
		}
	}
	return p, nil
}

func parseGoogle(body []byte) (p page, err error) {
	var list struct {
		Items []struct {
			Name       string `json:"name"`
			Size       int64  `json:"size,string"`
			Generation string `json:"generation"`
		} `json:"items"`
		Next string `json:"nextPageToken"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return p, errors.New("want a JSON object with items")
	}
	for _, o := range list.Items {
		p.entries = append(p.entries, entry{o.Name, o.Generation, o.Size})
	}
	if list.Next != "" {
		p.next = url.Values{"pageToken": {list.Next}}
	}
	return p, nil
}

func parseAzure(body []byte) (p page, err error) {
	var list struct {
		XMLName xml.Name `xml:"EnumerationResults"`
		Blobs   struct {
			Blob []struct {
				Name struct {
					Encoded bool   `xml:"Encoded,attr"`
					Text    string `xml:",chardata"`
				}
				Properties struct {
					Size int64 `xml:"Content-Length"`
				}
			}
		}
		NextMarker string
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		return p, errors.New("want XML with EnumerationResults")
	}
	for _, o := range list.Blobs.Blob {
		name := o.Name.Text
		if decoded, derr := url.PathUnescape(name); derr == nil && o.Name.Encoded {
			name = decoded
		}
		p.entries = append(p.entries, entry{name, "", o.Properties.Size})
	}
	if list.NextMarker != "" {
		p.next = url.Values{"marker": {list.NextMarker}}
	}
	return p, nil
}
