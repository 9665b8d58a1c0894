"""What the vectors of PROTOCOL.md §12 are made from: inputs, and what must come of them, side by side."""

from tests.vectors.making.boxes import box_vectors
from tests.vectors.making.chains import chain_vectors, row_vectors, uuid_vectors
from tests.vectors.making.columns import column_vectors
from tests.vectors.making.merges import merge_vectors
from tests.vectors.making.messages import message_vectors
from tests.vectors.making.segments import segment_vectors

VECTORS = {
    "columns.json": column_vectors,
    "segments.json": segment_vectors,
    "messages.json": message_vectors,
    "chains.json": chain_vectors,
    "rows.json": row_vectors,
    "merges.json": merge_vectors,
    "uuid7.json": uuid_vectors,
    "boxes.json": box_vectors,
}
