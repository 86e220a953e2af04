// cases_optimizer.h: the norm of all gradients, from the sums of their squares.

static void check_norm(double limit)
{
	enum { ELEMENTS = 1037 };
	Buffer<real> squares(ELEMENTS), norm(1), scale(1);
	double total = 0;
	for (long i = 0; i < ELEMENTS; i++) {
		squares[i] = (real)fabs(random_number());
		total += squares[i];
	}
	squares.upload();
	tmpl_gradient_norm(norm.at(), scale.at(), squares.at(), ELEMENTS, (real)limit, 0);
	expect(norm, std::vector<double>{sqrt(total)}, 64, 1, "norm");
	expect(scale, std::vector<double>{limit > 0 ? fmin(1, limit / (sqrt(total) + 1e-6)) : 1}, 64, 1, "scale");
}

static void test_norms()
{
	for (double limit : {0.0, 1.0, 1e6})
		check_norm(limit);
}
