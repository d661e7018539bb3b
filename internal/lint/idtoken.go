package lint

var idTokenForEveryJob = check{
	name:     "id-token-for-every-job",
	severity: Warning,
	meaning: "A workflow grants `id-token: write` to all of its jobs, including those that run third-party " +
		"code.",
	find: func(in *files, found report) {
		for _, f := range in.workflows {
			key, permissions := pair(f.root, "permissions")
			if get(f.root, "jobs") == nil {
				continue
			}
			const fix = "set `permissions: {}` here, and `id-token: write` in the job that needs it"
			if text(permissions) == "write-all" {
				found(f.at(key), fix, "every job of this workflow has all permissions, and can request ID tokens")
				continue
			}
			if key, value := pair(permissions, "id-token"); text(value) == "write" {
				found(f.at(key), fix, "every job of this workflow can request ID tokens, including those that run third-party code")
			}
		}
	},
}
