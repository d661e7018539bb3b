package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

// maxWait is how long one request to GitHub may take: the largest uploads ten megabytes.
const maxWait = 5 * time.Minute

// github is a repository on GitHub. Commits that its API makes for a job's token, without author and committer, are
// signed by GitHub; those that a job pushes are not.
type github struct {
	url, repository, token string
	repo                   repository // here
}

// commit uploads the built dist/, makes a release commit and returns its name. GitHub must have made the same tree.
func (g github) commit(ctx context.Context, parent, tree string, built release) (string, error) {
	type entry struct {
		Path string `json:"path"`
		Mode string `json:"mode"`
		Type string `json:"type"`
		SHA  string `json:"sha"`
	}
	base, err := g.repo.git(ctx, "rev-parse", "--verify", parent+"^{tree}")
	if err != nil {
		return "", err
	}
	var entries []entry
	for _, name := range distFiles() {
		content, err := os.ReadFile(built.dist(name))
		if err != nil {
			return "", err
		}
		blob, err := g.post(ctx, "blobs", map[string]any{"content": base64.StdEncoding.EncodeToString(content), "encoding": "base64"})
		if err != nil {
			return "", err
		}
		entries = append(entries, entry{Path: "dist/" + name, Mode: "100644", Type: "blob", SHA: blob})
	}
	got, err := g.post(ctx, "trees", map[string]any{"base_tree": strings.TrimSpace(base), "tree": entries})
	if err != nil {
		return "", err
	}
	if got != tree {
		return "", fmt.Errorf("GitHub has made the tree %s, want %s, which git has made here", got, tree)
	}
	return g.post(ctx, "commits", map[string]any{"message": message(built.version, parent), "tree": tree, "parents": []string{parent}})
}

// tag makes an annotated tag.
func (g github) tag(ctx context.Context, sha, version string) error {
	tag, err := g.post(ctx, "tags", map[string]any{"tag": version, "message": version, "object": sha, "type": "commit"})
	if err != nil {
		return err
	}
	_, err = g.post(ctx, "refs", map[string]any{"ref": "refs/tags/" + version, "sha": tag})
	return err
}

// post makes an object of git's, or a ref, and returns its name.
func (g github) post(ctx context.Context, kind string, body any) (string, error) {
	text, err := json.Marshal(body)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url+"/repos/"+g.repository+"/git/"+kind, bytes.NewReader(text))
	if err != nil {
		return "", err
	}
	req.Header.Set("Accept", "application/vnd.github+json")
	req.Header.Set("Authorization", "Bearer "+g.token)
	req.Header.Set("X-GitHub-Api-Version", "2022-11-28")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", fmt.Errorf("make %s on GitHub: %w", kind, err)
	}
	defer resp.Body.Close()
	reply, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("make %s on GitHub: %w", kind, err)
	}
	if resp.StatusCode != http.StatusCreated {
		return "", fmt.Errorf("make %s on GitHub: status %d: %.500q", kind, resp.StatusCode, reply)
	}
	var made struct {
		SHA string `json:"sha"`
	}
	if err := json.Unmarshal(reply, &made); err != nil {
		return "", fmt.Errorf("make %s on GitHub: %w", kind, err)
	}
	return made.SHA, nil
}
