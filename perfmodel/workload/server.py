"""Options with which a server is started, as far as they set its memory."""

import equinox as eqx

from perfmodel.units import Scalar, as_scalar


class ServerOptions(eqx.Module):
    """Options of one server; 0: not told.

    - `memory_fraction`: share of main memory, of what its framework takes it of.
    - `default_fraction`: the share that its release takes where it is told none.
    - `max_num_seqs`: sequences that a data rank takes in a step; `max_num_batched_tokens`: tokens.
    - `graph_sequences`: of the largest CUDA graph on fewer than four chips; `graph_sequences_wide`: on more.
    - `graphs`: bytes of CUDA graphs that are kept free.
    - `raises`: 1 where a higher share than the default is given if that leaves next to nothing for KV cache.
    - `speculative_tokens`: that a layer more, like the model's last, drafts in each step.
    """

    memory_fraction: Scalar = eqx.field(converter=as_scalar, default=0.0)
    default_fraction: Scalar = eqx.field(converter=as_scalar, default=0.0)
    max_num_seqs: Scalar = eqx.field(converter=as_scalar, default=0.0)
    max_num_batched_tokens: Scalar = eqx.field(converter=as_scalar, default=0.0)
    graph_sequences: Scalar = eqx.field(converter=as_scalar, default=0.0)
    graph_sequences_wide: Scalar = eqx.field(converter=as_scalar, default=0.0)
    graphs: Scalar = eqx.field(converter=as_scalar, default=0.0)
    raises: Scalar = eqx.field(converter=as_scalar, default=0.0)
    speculative_tokens: Scalar = eqx.field(converter=as_scalar, default=0.0)
