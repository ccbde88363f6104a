"""Every endpoint of the installed MLflow, classified by what the server's policy does with it.

A name is that of MLflow's request message, or of the Flask endpoint where it has no message. A test
compares the table with MLflow's own route list; an endpoint that is not here is refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

Kind = Literal["read", "logins", "registry", "files", "fenced", "closed"]
"""read: answered by MLflow. logins: users and roles, which MLflow lets its administrator change. registry: about a
registered model. files: writes or deletes artifacts. fenced: refused where it names the governed experiment or anything
in it. closed: not served, for it runs code, calls out or deletes as the server's own user."""

_READ = """
    BatchGetTraceInfos BatchGetTraces CalculateTraceFilterCorrelation CreatePresignedDownloadUrl DownloadArtifact
    GetAssessmentRequest GetDataset GetDatasetExperimentIds GetDatasetRecords GetExperiment GetExperimentByName
    GetGatewayBudgetPolicy GetGatewayEndpoint GetGatewayGuardrail GetGatewayModelDefinition GetGatewaySecretInfo
    GetIssue GetLabelSchema GetLabelSchemaByName GetLatestVersions GetLoggedModel GetMetricHistory
    GetMetricHistoryBulkInterval GetModelVersion GetModelVersionByAlias GetModelVersionDownloadUri
    GetPresignedDownloadUrl GetPromptOptimizationJob GetRegisteredModel GetReviewQueue GetReviewQueueByName GetRun
    GetScorer GetTrace GetTraceInfo
    GetTraceInfoV3 GetWebhook GetWorkspace ListArtifacts ListEndpointGuardrailConfigs ListGatewayBudgetPolicies
    ListGatewayBudgetWindows ListGatewayEndpointBindings ListGatewayEndpoints ListGatewayGuardrails
    ListGatewayModelDefinitions ListGatewaySecretInfos ListLabelSchemas ListLoggedModelArtifacts ListReviewQueueItems
    ListReviewQueues ListScorerVersions ListScorers ListWebhooks ListWorkspaces QueryTraceMetrics
    SearchEvaluationDatasets SearchExperiments SearchIssues SearchLoggedModels SearchModelVersions
    SearchPromptOptimizationJobs SearchRegisteredModels SearchRuns SearchTraces SearchTracesV3
    _get_job _get_online_scoring_configs _get_provider_config _get_secrets_config _get_server_info _graphql
    _list_supported_models _list_supported_providers _not_implemented health serve serve_artifacts
    serve_get_logged_model_artifact serve_get_metric_history_bulk serve_get_metric_history_bulk_interval
    serve_get_trace_artifact serve_get_ui_telemetry serve_model_version_artifact serve_post_ui_telemetry
    serve_search_datasets serve_static_file static version
"""

# Of `signals ui --team` alone; `<lambda>` is the page that creates a user.
_LOGINS = """
    <lambda> add_role_permission assign_role create_role create_user delete_role delete_user get_current_user get_role
    get_user get_user_permission grant_user_permission list_current_user_permissions list_role_permissions
    list_role_users list_roles list_user_permissions list_user_roles list_users remove_role_permission
    revoke_user_permission signup unassign_role update_role update_role_permission update_user_admin
    update_user_password
"""

_REGISTRY = """
    CreateModelVersion CreateRegisteredModel DeleteModelVersion DeleteModelVersionTag DeleteRegisteredModel
    DeleteRegisteredModelAlias DeleteRegisteredModelTag RenameRegisteredModel SetModelVersionTag
    SetRegisteredModelAlias SetRegisteredModelTag TransitionModelVersionStage UpdateModelVersion UpdateRegisteredModel
"""

_FILES = """
    AbortMultipartUpload CompleteMultipartUpload CreateMultipartUpload DeleteArtifact UploadArtifact
    serve_upload_artifact
"""

_FENCED = """
    AddDatasetToExperiments AddItemsToReviewQueue CreateAssessment CreateDataset CreateExperiment CreateIssue
    CreateLabelSchema CreateLoggedModel CreatePresignedUploadUrl CreateReviewQueue CreateRun CreateWebhook
    DeleteAssessment DeleteDataset DeleteDatasetRecords DeleteDatasetTag DeleteExperiment DeleteExperimentTag
    DeleteLabelSchema DeleteLoggedModel DeleteLoggedModelTag DeleteReviewQueue DeleteRun DeleteScorer DeleteTag
    DeleteTraceTag DeleteTraceTagV3 DeleteTraces DeleteWebhook EndTrace FinalizeLoggedModel GetOrCreateUserQueue
    LinkPromptsToTrace LinkTracesToRun LogBatch LogInputs LogLoggedModelParamsRequest LogMetric LogModel LogOutputs
    LogParam RegisterScorer RemoveDatasetFromExperiments RemoveItemsFromReviewQueue RestoreExperiment RestoreRun
    SetDatasetTags SetExperimentTag SetLoggedModelTags SetReviewQueueItemStatus SetTag SetTraceTag SetTraceTagV3
    StartTrace StartTraceV3 TestWebhook UpdateAssessment UpdateExperiment UpdateIssue UpdateLabelSchema
    UpdateReviewQueue UpdateRun UpdateWebhook UpsertDatasetRecords export_traces
"""

_CLOSED = """
    AddGuardrailToEndpoint AttachModelToGatewayEndpoint CancelPromptOptimizationJob CreateGatewayBudgetPolicy
    CreateGatewayEndpoint CreateGatewayEndpointBinding CreateGatewayGuardrail CreateGatewayModelDefinition
    CreateGatewaySecret CreatePromptOptimizationJob CreateWorkspace DeleteGatewayBudgetPolicy DeleteGatewayEndpoint
    DeleteGatewayEndpointBinding DeleteGatewayEndpointTag DeleteGatewayGuardrail DeleteGatewayModelDefinition
    DeleteGatewaySecret DeletePromptOptimizationJob DeleteWorkspace DetachModelFromGatewayEndpoint
    RemoveGuardrailFromEndpoint SetGatewayEndpointTag UpdateEndpointGuardrailConfig UpdateGatewayBudgetPolicy
    UpdateGatewayEndpoint UpdateGatewayModelDefinition UpdateGatewaySecret UpdateWorkspace _cancel_job _delete_demo
    _generate_demo _invoke_genai_evaluate_handler _invoke_issue_detection_handler _invoke_scorer_handler
    _upsert_online_scoring_config serve_create_promptlab_run serve_gateway_proxy
"""

_GROUPS: tuple[tuple[Kind, str], ...] = (
    *(("read", _READ), ("logins", _LOGINS), ("registry", _REGISTRY)),
    *(("files", _FILES), ("fenced", _FENCED), ("closed", _CLOSED)),
)
KINDS: Mapping[str, Kind] = {name: kind for kind, names in _GROUPS for name in names.split()}

NATIVE: Mapping[tuple[str, str], str] = {
    ("GET", r"/health"): "health",
    ("GET", r"/(?:ajax-)?api/3\.0/mlflow/server-info"): "_get_server_info",
    ("GET", r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/(?P<artifact_path>.*)"): "DownloadArtifact",
    ("PUT", r"/(?:ajax-)?api/2\.0/mlflow-artifacts/artifacts/(?P<artifact_path>.*)"): "UploadArtifact",
    ("POST", r"/v1/traces"): "export_traces",
}
"""Routes that MLflow's FastAPI app answers itself and that are served: method and path. Its other routes (the gateway,
jobs, the assistant, the registry of MCP servers) are closed; what no route takes goes on to Flask."""


def native_name(method: str, path: str) -> tuple[str, Mapping[str, str]] | None:
    """Name of a served native route and the parts of its path; None where the path is not one of them."""
    for (served, pattern), name in NATIVE.items():
        if method == served and (found := re.fullmatch(pattern, path, re.DOTALL)):
            return name, found.groupdict()
    return None
