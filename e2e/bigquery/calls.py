"""Calls BigQuery's API as often as the second argument says, with google-auth's default credentials."""

import sys

import google.auth
from google.auth.transport.requests import AuthorizedSession

credentials, project = google.auth.default(scopes=["https://www.googleapis.com/auth/drive"])
session = AuthorizedSession(credentials)
for _ in range(int(sys.argv[2])):
    session.get(f"{sys.argv[1]}/bigquery/v2/projects/{project}/datasets").raise_for_status()
