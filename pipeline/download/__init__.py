"""Downloads: HTTP client, retries, resumable files and the download journal."""
