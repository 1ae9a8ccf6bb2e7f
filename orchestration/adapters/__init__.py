"""The adapters that come with the project. `MAHAVISHNU_ADAPTERS` adds others; `orchestration.sdk` has their types."""
