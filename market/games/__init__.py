"""Games between traders: what each does best when all the others do too, in closed form and on a grid."""
