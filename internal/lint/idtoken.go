package lint

var idTokenForEveryJob = check{
	name:     "id-token-for-every-job",
	severity: Warning,
	meaning:  "A workflow lets all of its jobs ask for ID tokens, also those that run other people's code.",
	find: func(in *files, found report) {
		for _, f := range in.workflows {
			key, permissions := pair(f.root, "permissions")
			if get(f.root, "jobs") == nil {
				continue
			}
			const fix = "write `permissions: {}` here, and `id-token: write` in the job that needs it"
			if text(permissions) == "write-all" {
				found(f.at(key), fix, "every job of this workflow may do all, and ask for ID tokens")
				continue
			}
			if key, value := pair(permissions, "id-token"); text(value) == "write" {
				found(f.at(key), fix, "every job of this workflow may ask for ID tokens, also those that run other people's code")
			}
		}
	},
}
