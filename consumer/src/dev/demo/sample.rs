//! What is in the demo's remote: a small shop's trunk, stacks of branches, and what its people do
//! while the demo runs. Nothing but data.

/// Who writes commits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Person {
    pub(super) name: &'static str,
    pub(super) email: &'static str,
}

const ALICE: Person = Person {
    name: "Alice Adler",
    email: "alice@shop.example",
};
pub(super) const BOB: Person = Person {
    name: "Bob Brandt",
    email: "bob@shop.example",
};
const CAROL: Person = Person {
    name: "Carol Chen",
    email: "carol@shop.example",
};

/// One commit: who, what for, and what it does to which files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) author: Person,
    pub(super) subject: &'static str,
    pub(super) edits: &'static [Edit],
}

/// What a commit does to one file.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// Adds lines at its end, and makes it where it is not there.
    Append(&'static str, &'static str),
    /// Puts the second text where the first one was.
    Replace(&'static str, &'static str, &'static str),
    /// Removes it.
    Remove(&'static str),
}

use Edit::{Append, Remove, Replace};

const fn work(author: Person, subject: &'static str, edits: &'static [Edit]) -> Work {
    Work {
        author,
        subject,
        edits,
    }
}

/// A branch, what it stands on, and its own commits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line {
    pub(super) branch: &'static str,
    pub(super) parent: &'static str,
    pub(super) commits: &'static [Work],
}

/// The trunk's name.
pub(super) const TRUNK: &str = "main";

/// The trunk's history.
pub(super) const HISTORY: &[Work] = &[
    work(
        ALICE,
        "Start the shop",
        &[
            Append(
                "README.md",
                "# The shop\n\nRun `make serve`, then open http://localhost:8080.\n",
            ),
            Append("Makefile", "serve:\n\tnode src/server.js\n"),
        ],
    ),
    work(
        ALICE,
        "Serve the front page",
        &[
            Append(
                "src/server.js",
                "import { page } from './page.js';\n\nexport const routes = { '/': page };\n",
            ),
            Append(
                "src/page.js",
                "export const page = () => '<h1>The shop</h1>';\n",
            ),
        ],
    ),
    work(
        BOB,
        "List the products",
        &[Append("src/catalog.js", "export const products = [];\n")],
    ),
    work(
        BOB,
        "Fill the catalog from a file",
        &[
            Append(
                "data/products.json",
                "[{ \"id\": 1, \"name\": \"Kettle\", \"price\": 2990 }]\n",
            ),
            Append(
                "src/catalog.js",
                "export const load = (text) => products.push(...JSON.parse(text));\n",
            ),
        ],
    ),
    work(
        CAROL,
        "Check every push",
        &[Append("ci/check.sh", "#!/bin/sh\nset -e\nnode --test\n")],
    ),
    work(
        CAROL,
        "Say how to contribute",
        &[Append(
            "README.md",
            "\n## Contributing\n\nSmall branches, one on the other.\n",
        )],
    ),
    work(
        BOB,
        "Work out prices with VAT",
        &[Append("src/price.js", PRICE)],
    ),
    work(
        ALICE,
        "Put products into a cart",
        &[Append(
            "src/cart.js",
            "export const cart = () => ({ items: [], coupons: [] });\n",
        )],
    ),
    work(
        ALICE,
        "Take products out of the cart",
        &[Append(
            "src/cart.js",
            "export const remove = (cart, id) => cart.items.splice(cart.items.indexOf(id), 1);\n",
        )],
    ),
    work(
        BOB,
        "Honour paper coupons",
        &[Append(
            "src/coupons.js",
            "// Typed in by the cashier.\nexport const codes = ['SPRING', 'SUMMER'];\n",
        )],
    ),
    work(
        CAROL,
        "Log every request",
        &[Append(
            "src/log.js",
            "export const log = (request) => console.log(request.method, request.url);\n",
        )],
    ),
    work(
        CAROL,
        "Keep passwords out of the log",
        &[Append(
            "src/log.js",
            "export const scrub = (url) => url.replace(/password=[^&]*/, 'password=***');\n",
        )],
    ),
    work(
        ALICE,
        "Send an order",
        &[Append(
            "src/order.js",
            "export const order = (cart) => ({ id: Date.now(), items: cart.items });\n",
        )],
    ),
    work(
        BOB,
        "Tell the customer by mail",
        &[Append(
            "src/mail.js",
            "export const confirm = (order) => `Thank you for order ${order.id}`;\n",
        )],
    ),
    work(
        BOB,
        "Add a second product",
        &[Append(
            "data/products.json",
            "[{ \"id\": 2, \"name\": \"Teapot\", \"price\": 3490 }]\n",
        )],
    ),
    work(
        CAROL,
        "Run the checks on two versions",
        &[Append("ci/check.sh", "npx node@20 --test\n")],
    ),
];

const PRICE: &str = "const VAT = 0.19;\n\n// In cents.\nexport function total(net) {\n  return net * (1 + VAT);\n}\n";
const PLAIN_TOTAL: &str = "return net * (1 + VAT);";
const DISCOUNTED_TOTAL: &str = "return (net - discount(net)) * (1 + VAT);";
const ROUNDED_TOTAL: &str = "return Math.round(net * (1 + VAT));";
const BOTH_TOTALS: &str = "return Math.round((net - discount(net)) * (1 + VAT));";

/// The branches, parents first.
pub(super) const BRANCHES: &[Line] = &[
    Line {
        branch: "session-store",
        parent: TRUNK,
        commits: &[
            work(
                ALICE,
                "Keep sessions in a store",
                &[Append(
                    "src/session.js",
                    "const sessions = new Map();\nexport const find = (id) => sessions.get(id);\n",
                )],
            ),
            work(
                ALICE,
                "Let sessions expire",
                &[Append(
                    "src/session.js",
                    "export const LIFETIME = 7 * 24 * 3600;\n",
                )],
            ),
        ],
    },
    Line {
        branch: "login-form",
        parent: "session-store",
        commits: &[
            work(
                ALICE,
                "Show a login form",
                &[Append(
                    "src/login.js",
                    "export const form = () => '<form method=post>';\n",
                )],
            ),
            work(
                ALICE,
                "Open a session after the login",
                &[
                    Append(
                        "src/login.js",
                        "export const done = (session) => session.id;\n",
                    ),
                    Append(
                        "src/session.js",
                        "export const open = (user) => sessions.set(user.id, { user });\n",
                    ),
                ],
            ),
        ],
    },
    Line {
        branch: "password-reset",
        parent: "login-form",
        commits: &[work(
            CAROL,
            "Send a link to reset the password",
            &[Append(
                "src/reset.js",
                "export const link = (token) => `/reset/${token}`;\n",
            )],
        )],
    },
    Line {
        branch: "two-factor",
        parent: "password-reset",
        commits: &[
            work(
                CAROL,
                "Ask for a second factor",
                &[Append(
                    "src/factor.js",
                    "export const code = () => Math.floor(Math.random() * 1e6);\n",
                )],
            ),
            work(
                CAROL,
                "Trust a device for a month",
                &[Append(
                    "src/factor.js",
                    "export const TRUSTED = 30 * 24 * 3600;\n",
                )],
            ),
        ],
    },
    Line {
        branch: "cart-discounts",
        parent: TRUNK,
        commits: &[work(
            BOB,
            DISCOUNTS,
            &[
                Replace("src/price.js", PLAIN_TOTAL, DISCOUNTED_TOTAL),
                Append(
                    "src/coupons.js",
                    "export const discount = (net) => net / 10;\n",
                ),
            ],
        )],
    },
    Line {
        branch: "gift-cards",
        parent: "cart-discounts",
        commits: &[work(
            BOB,
            "Pay with a gift card",
            &[Append(
                "src/gift.js",
                "export const balance = (card) => card.cents;\n",
            )],
        )],
    },
    Line {
        branch: "search-index",
        parent: TRUNK,
        commits: &[work(
            CAROL,
            "Index the catalog",
            &[Append(
                "src/index.js",
                "export const words = (text) => text.toLowerCase().split(' ');\n",
            )],
        )],
    },
    Line {
        branch: "search-page",
        parent: "search-index",
        commits: &[work(
            CAROL,
            "Show what was found",
            &[Append(
                "src/search.js",
                "export const results = (found) => found.map((p) => p.name);\n",
            )],
        )],
    },
    Line {
        branch: "search-filters",
        parent: "search-page",
        commits: &[work(
            CAROL,
            "Filter what was found by price",
            &[Append(
                "src/search.js",
                "export const below = (cents) => (p) => p.price < cents;\n",
            )],
        )],
    },
];

/// What happens on the trunk while the stacks are being worked on.
pub(super) const MEANWHILE: &[Work] = &[
    work(
        ALICE,
        "Round prices to whole cents",
        &[Replace("src/price.js", PLAIN_TOTAL, ROUNDED_TOTAL)],
    ),
    work(ALICE, "Drop paper coupons", &[Remove("src/coupons.js")]),
];

const DISCOUNTS: &str = "Take discounts off the total";

/// The commit of `cart-discounts` as Bob makes it anew on the trunk.
pub(super) const DISCOUNTS_BY_HAND: Work = work(
    BOB,
    DISCOUNTS,
    &[
        Replace("src/price.js", ROUNDED_TOTAL, BOTH_TOTALS),
        Append(
            "src/discounts.js",
            "export const discount = (net) => net / 10;\n",
        ),
    ],
);

/// What a review of `login-form` brings.
pub(super) const REVIEW: Work = work(
    ALICE,
    "Label the fields for screen readers",
    &[Append(
        "src/login.js",
        "export const label = (name) => `<label>${name}</label>`;\n",
    )],
);

/// What moves the trunk once more, under the whole stack.
pub(super) const HOTFIX: Work = work(
    BOB,
    "Answer health checks",
    &[Append(
        "src/health.js",
        "export const healthy = () => 'ok';\n",
    )],
);
