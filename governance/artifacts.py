"""MLflow's artifact repository for `signals:/` addresses.

MLflow finds the class through the entry point group `mlflow.artifact_repository`. Import it
through MLflow only: importing this module before MLflow would make MLflow look for the class
while it is still being defined.
"""

from __future__ import annotations

import tempfile

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from governance.places import resolve


class ProjectArtifactRepository(LocalArtifactRepository):
    """Keeps artifacts in `mlruns/artifacts` of the checkout, wherever the checkout lies."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        self._stored = resolve(artifact_uri)
        super().__init__(self._stored.as_uri(), tracking_uri, registry_uri)
        self.artifact_uri = artifact_uri

    def download_artifacts(self, artifact_path: str, dst_path: str | None = None) -> str:
        """Path of a stored file, or of a copy of a stored folder.

        Python writes compiled code beside what it imports, and MLflow a file beside what it loads: neither may happen
        among files that are sealed.
        """
        if dst_path is None and (self._stored / artifact_path).is_dir():
            dst_path = tempfile.mkdtemp(prefix="signals-model-")
        return str(super().download_artifacts(artifact_path, dst_path))
