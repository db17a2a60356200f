"""What all layers share: the types that cross the wire, errors, placeholders. No I/O."""
