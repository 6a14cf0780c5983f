"""The schemas of STAC and of its extensions, kept offline, and what they find wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pystac.errors import STACValidationError
from pystac.validation import JsonSchemaSTACValidator, validate_dict

SCHEMAS = Path(__file__).parent / "schemas"
WEB = "https://stac-extensions.github.io"
KEPT = {
    f"{WEB}/classification/v1.1.0/schema.json": "classification",
    f"{WEB}/file/v2.1.0/schema.json": "file",
    f"{WEB}/mlm/v1.5.2/schema.json": "mlm",
    f"{WEB}/processing/v1.1.0/schema.json": "processing-v1.1.0",
    f"{WEB}/processing/v1.2.0/schema.json": "processing",
    f"{WEB}/projection/v2.0.0/schema.json": "projection",
    f"{WEB}/raster/v1.1.0/schema.json": "raster-v1.1.0",
    f"{WEB}/raster/v2.0.0/schema.json": "raster",
}


def problems(told: dict[str, Any]) -> list[str]:
    """What is wrong with an Item or a Collection, by the core schemas that pystac has and those of extensions."""
    assert set(told["stac_extensions"]) <= set(KEPT)
    validator = JsonSchemaSTACValidator()
    for address, name in KEPT.items():
        # A stored $id with an empty fragment would hide the schema.
        schema = json.loads((SCHEMAS / f"{name}.json").read_text()) | {"$id": address}
        validator.schema_cache[address] = schema
    try:
        validate_dict(told, validator=validator)
    except STACValidationError as error:
        return [str(error)]
    return []
