"""The conditional-difference map: fitted from counts, stored in sparse rows."""
