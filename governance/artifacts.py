"""MLflow's artifact repository for `signals:/` addresses.

MLflow finds the class through the entry point group `mlflow.artifact_repository`. Import it
through MLflow only: importing this module before MLflow would make MLflow look for the class
while it is still being defined.
"""

from __future__ import annotations

from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository

from governance.places import resolve


class ProjectArtifactRepository(LocalArtifactRepository):
    """Keeps artifacts in `mlruns/artifacts` of the checkout, wherever the checkout lies."""

    def __init__(self, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        super().__init__(resolve(artifact_uri).as_uri(), tracking_uri, registry_uri)
        self.artifact_uri = artifact_uri
