"""Downloads: HTTP client, SSRF guard, retries, resumable files and the download journal."""
