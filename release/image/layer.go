package image

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"io"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// A file is one of a layer: a folder if its name ends in a slash, a symbolic link if it has a target.
type file struct {
	name string
	mode int64
	data []byte
	link string
}

// A layer is files, packed.
type layer struct {
	packed, unpacked []byte
	digest, diffID   v1.Hash
}

// newLayer packs files, in the order of their names. They belong to root, and are as old as time.
func newLayer(files []file) (v1.Layer, error) {
	slices.SortFunc(files, func(a, b file) int { return cmp.Compare(a.name, b.name) })
	var unpacked, packed bytes.Buffer
	w := tar.NewWriter(&unpacked)
	for _, f := range files {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: f.name, Mode: f.mode, Size: int64(len(f.data)),
			ModTime: time.Unix(0, 0), Format: tar.FormatUSTAR}
		switch {
		case f.link != "":
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.link, 0o777
		case strings.HasSuffix(f.name, "/"):
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	z, err := gzip.NewWriterLevel(&packed, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(unpacked.Bytes()); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	l := layer{packed: packed.Bytes(), unpacked: unpacked.Bytes()}
	if l.digest, _, err = v1.SHA256(bytes.NewReader(l.packed)); err != nil {
		return nil, err
	}
	l.diffID, _, err = v1.SHA256(bytes.NewReader(l.unpacked))
	return l, err
}

func (l layer) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l layer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l layer) Size() (int64, error)                { return int64(len(l.packed)), nil }
func (l layer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
func (l layer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.packed)), nil
}
func (l layer) Uncompressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.unpacked)), nil
}
