package main

import (
	"bytes"
	"compress/gzip"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/klauspost/compress/zstd"

	"github.com/oidc-dbt/oidc-dbt/internal/pyenv"
)

// maxDownload is what a job may have to download for the action: with it, a runner's download takes about a second.
const maxDownload = 25 << 20

// maxUnpacked is more than a binary has, and little enough to unpack what someone else has packed.
const maxUnpacked = 64 << 20

// packed is the platform's file in dist/.
func (p platform) packed() string { return p.name + ".zst" }

// base is the platform whose binary is the dictionary of p's, and whether there is one. Systems differ little in what
// is compiled for one processor, so a binary for the second costs a third of the first.
func (p platform) base() (platform, bool) {
	if p.goos == "linux" {
		return platform{}, false
	}
	for _, base := range platforms {
		if base.goos == "linux" && base.goarch == p.goarch {
			return base, true
		}
	}
	return platform{}, false
}

// pack writes the files of dist/.
func (r release) pack(ctx context.Context) error {
	var all sync.WaitGroup
	errs := make([]error, len(platforms))
	places := make(chan struct{}, 2) // each takes half a gigabyte
	for i, p := range platforms {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			base := ""
			if b, ok := p.base(); ok {
				base = r.asset(b.asset())
			}
			errs[i] = r.compress(ctx, r.asset(p.asset()), base, r.dist(p.packed()))
		})
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", platforms[i].packed(), err)
		}
	}
	_, err := unpack(filepath.Join(r.out, "dist")) // by another implementation
	return err
}

//go:embed pack.py
var packScript string

//go:embed requirements.txt
var requirements []byte

// The levels of zstd's that a release is packed at, and one that is only tried out.
const level, fastLevel = "19", "3"

// compressAt returns what packs a file with zstd; base, if it is not "", is the file that is its dictionary. It uses
// the reference implementation: what Go's writes is a sixth larger.
func compressAt(level string) func(ctx context.Context, file, base, out string) error {
	return func(ctx context.Context, file, base, out string) error {
		python, err := pyenv.Ensure(ctx, "release", requirements, "", os.Stderr)
		if err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, python.Program("python"), "-I", "-c", packScript, file, base, out, level)
		cmd.Env = python.Environ()
		if text, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w\n%s", err, text)
		}
		return nil
	}
}

// unpack returns the binaries of a dist folder by the names of their assets.
func unpack(dist string) (map[string][]byte, error) {
	binaries := map[string][]byte{}
	for _, p := range platforms { // those for Linux first
		file, err := os.ReadFile(filepath.Join(dist, p.packed()))
		if err != nil {
			return nil, err
		}
		options := []zstd.DOption{zstd.WithDecoderMaxMemory(maxUnpacked), zstd.WithDecoderConcurrency(1)}
		if base, ok := p.base(); ok {
			options = append(options, zstd.WithDecoderDictRaw(0, binaries[base.asset()]))
		}
		reader, err := zstd.NewReader(nil, options...)
		if err != nil {
			return nil, err
		}
		if err = oneFrame(file); err != nil {
			return nil, fmt.Errorf("unpack dist/%s: %w", p.packed(), err)
		}
		binary, err := reader.DecodeAll(file, nil)
		reader.Close()
		if err != nil {
			return nil, fmt.Errorf("unpack dist/%s: %w", p.packed(), err)
		}
		binaries[p.asset()] = binary
	}
	return binaries, nil
}

// oneFrame fails unless a file is one frame of zstd's, and nothing else. Frames behind it could hold anything, as what
// is to be skipped, or unpack to more than any limit.
func oneFrame(file []byte) error {
	var header zstd.Header
	if err := header.Decode(file); err != nil {
		return err
	}
	if header.Skippable {
		return errors.New("it begins with a part that is to be skipped")
	}
	rest := file[header.HeaderSize:]
	for last := false; !last; { // RFC 8878, section 3.1.1.2
		if len(rest) < 3 {
			return io.ErrUnexpectedEOF
		}
		block := int(rest[0]) | int(rest[1])<<8 | int(rest[2])<<16
		size := block >> 3
		if block>>1&3 == 1 { // one byte, many times
			size = 1
		}
		if size > len(rest)-3 {
			return io.ErrUnexpectedEOF
		}
		rest, last = rest[3+size:], block&1 == 1
	}
	if header.HasCheckSum {
		rest = rest[min(4, len(rest)):]
	}
	if len(rest) > 0 {
		return fmt.Errorf("%d bytes follow its end", len(rest))
	}
	return nil
}

// downloadSize is the size of an archive as GitHub sends it to a runner: gzip, at its default level.
func downloadSize(archive io.Reader) (int64, error) {
	var n counter
	w := gzip.NewWriter(&n)
	if _, err := io.Copy(w, archive); err != nil {
		return 0, err
	}
	err := w.Close()
	return int64(n), err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// checkDownload fails if an archive is larger than a job should have to download.
func checkDownload(archive []byte, log io.Writer) error {
	size, err := downloadSize(bytes.NewReader(archive))
	if err != nil {
		return err
	}
	fmt.Fprintf(log, "release: a job downloads %.1f MiB\n", float64(size)/(1<<20))
	if size > maxDownload {
		return fmt.Errorf("a job would download %d bytes, want at most %d: look for what has made the binaries larger", size, maxDownload)
	}
	return nil
}
