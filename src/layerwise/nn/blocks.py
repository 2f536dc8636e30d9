"""Where a network's layers are: its repeated blocks, or else its modules with a weight matrix."""

from torch import nn


def repeated_blocks(network: nn.Module) -> dict[str, nn.Module]:
    """The blocks that a network names itself (`blocks`), by dotted name, in order of depth; none if it names none."""
    blocks = getattr(network, "blocks", None)
    if not isinstance(blocks, nn.ModuleList | nn.Sequential):
        return {}
    inside = {id(block) for block in blocks}
    names = {id(module): name for name, module in network.named_modules() if id(module) in inside}
    return {names[id(block)]: block for block in blocks}


def weight_layers(network: nn.Module) -> list[str]:
    """Dotted names of the modules that hold a parameter of two or more dimensions themselves, in order of definition;
    "" is the network.
    """
    weights = [name for name, parameter in network.named_parameters() if parameter.dim() >= 2]
    return list(dict.fromkeys(name.rpartition(".")[0] for name in weights))


def block_names(network: nn.Module) -> list[str]:
    """Dotted names of the repeated blocks, in order of depth.

    A network that names none is taken layer by layer: its blocks are the modules with a weight matrix, but for the
    first and the last.
    """
    if blocks := repeated_blocks(network):
        return list(blocks)
    return [name for name in weight_layers(network)[1:-1] if name]
