"""Many runners: shards and merge, compile caches, posts to GitHub."""
