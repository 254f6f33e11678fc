"""What the law says to whoever uses such a model in the European Union."""

NOTICE = (
    "In the European Union a system that infers emotions may not be used on people at work or in education, unless for "
    "medical or safety reasons (AI Act, Regulation (EU) 2024/1689, Article 5(1)(f)). Anywhere else, the people who are "
    "exposed to it must be told so (Article 50(3)), and their data be handled as the GDPR says. The model tells how a "
    "face and a voice look and sound, not what somebody feels."
)
